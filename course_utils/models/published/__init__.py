"""Networks that other people trained and published, as readable modules with the published weights."""
