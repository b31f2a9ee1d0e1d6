"use strict";
// The page is complete without this script. It adds the search, over the entries that stand in the page itself.
const MOST = 60;
const entries = JSON.parse(document.getElementById("entries").textContent);
const words = document.getElementById("words");
const count = document.getElementById("count");
const results = document.getElementById("results");
const written = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
const search = () => {
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  const holds = (entry) => {
    const text = `${entry.study} ${entry.kind} ${entry.title}`.toLowerCase();
    return wanted.every((word) => text.includes(word));
  };
  const found = wanted.length ? entries.filter(holds) : [];
  const more = found.length > MOST ? `, the first ${MOST} are shown` : "";
  count.textContent = wanted.length ? `${found.length} found${more}` : "";
  results.replaceChildren(
    ...found.slice(0, MOST).map((entry) => {
      const link = Object.assign(document.createElement("a"), { href: entry.link });
      link.append(written("span", entry.study), written("span", entry.kind), written("b", entry.title));
      const item = document.createElement("li");
      item.append(link);
      return item;
    }),
  );
};
words.addEventListener("input", search);
words.closest(".search").hidden = false;
search();
