// The search of the index page. What it searches stands in the page itself, so nothing is loaded.
"use strict";

const SHOWN = 20;
const form = document.querySelector("[role=search]");
const field = form.querySelector("input");
const report = form.querySelector("[role=status]");
const results = document.getElementById("results");
const cards = document.getElementById("cards");

const contents = JSON.parse(document.getElementById("contents").textContent);
const sections = Object.entries(contents).flatMap(([page, list]) =>
  list.map(([anchor, heading, text]) => ({
    address: `${page}.html#${anchor}`,
    title: list[0][1],
    heading,
    text,
    lowHeading: heading.toLowerCase(),
    lowText: text.toLowerCase(),
  }))
);

/** How well a section fits: 0 if one of the words is missing, and a word in the heading weighs more. */
function score(section, words) {
  const each = words.map((word) => {
    const inText = section.lowText.split(word).length - 1;
    return Math.min(inText, 5) + (section.lowHeading.includes(word) ? 10 : 0);
  });
  return Math.min(...each) && each.reduce((sum, one) => sum + one);
}

/** The text around the first of the words, with all of them marked. */
function excerpt(section, words) {
  const places = words.map((word) => section.lowText.indexOf(word)).filter((place) => place >= 0);
  const first = Math.max(0, Math.min(...places, section.text.length) - 60);
  const start = first && section.text.indexOf(" ", first) + 1;
  const whole = section.text.slice(start);
  const piece = (start ? "… " : "") + (whole.length > 190 ? whole.slice(0, 190).replace(/\s\S*$/, " …") : whole);
  const escaped = words.map((word) => word.replace(/[^\p{L}\p{N}_]/gu, "\\$&"));
  const paragraph = document.createElement("p");
  piece.split(new RegExp(`(${escaped.join("|")})`, "i")).forEach((part, number) => {
    paragraph.append(number % 2 ? element("mark", part) : part);
  });
  return paragraph;
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function search() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = sections
    .map((section) => ({ section, fit: words.length ? score(section, words) : 0 }))
    .filter(({ fit }) => fit > 0)
    .sort((one, other) => other.fit - one.fit)
    .map(({ section }) => section);
  results.replaceChildren(
    ...found.slice(0, SHOWN).map((section) => {
      const link = element("a", section.heading);
      link.href = section.address;
      const item = document.createElement("li");
      item.append(link, excerpt(section, words));
      if (section.heading !== section.title) link.after(element("span", section.title));
      return item;
    })
  );
  cards.hidden = words.length > 0;
  const count = found.length === 1 ? "1 section" : `${found.length || "No"} sections`;
  const cut = found.length > SHOWN ? `; the first ${SHOWN}` : "";
  history.replaceState(field.value, "");
  report.textContent = words.length ? count + cut : "";
}

/** Arrow keys go from the field through the results and back, Enter opens the first, Escape clears. */
function steer(event) {
  const links = [...results.querySelectorAll("a")];
  const place = links.indexOf(document.activeElement);
  if (event.key === "/" && document.activeElement !== field) field.focus();
  else if (event.key === "Escape") {
    field.value = "";
    search();
    field.focus();
  } else if (event.key === "ArrowDown" && links.length) links[Math.min(place + 1, links.length - 1)].focus();
  else if (event.key === "ArrowUp" && place >= 0) (links[place - 1] || field).focus();
  else if (event.key === "Enter" && document.activeElement === field) links[0]?.click();
  else return;
  event.preventDefault();
}

form.hidden = false;
field.addEventListener("input", search);
document.addEventListener("keydown", steer);
addEventListener("pageshow", () => {
  field.value = history.state ?? ""; // what was sought before "back"
  search();
});
