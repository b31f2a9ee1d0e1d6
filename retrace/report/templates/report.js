"use strict";
// The page is complete without this script. It adds: sources of numbers, sorting, copying, switches, and larger pictures.
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (tag, options = {}, ...children) => {
  const { data = {}, aria = {}, ...own } = options;
  const element = Object.assign(document.createElement(tag), own);
  Object.assign(element.dataset, data);
  for (const [name, value] of Object.entries(aria)) element.setAttribute(`aria-${name}`, value);
  element.append(...children);
  return element;
};
const button = (text, action, options = {}) => {
  const element = make("button", { type: "button", textContent: text, ...options });
  element.addEventListener("click", () => action(element));
  return element;
};

// A number says where it was read. One number of a table or paragraph is reached with Tab, the others with arrow keys.
const source = make("div", { id: "source", aria: { live: "polite" } });
source.setAttribute("role", "status");
document.body.append(source);
const NEAR = "table, p, h3, ul, dl, figure";
const numbersNear = (number) => all(".n", number.closest(NEAR) || document.body);
const tell = (number) => {
  source.textContent = `${number.textContent} is ${number.dataset.key} of ${number.dataset.source}`;
};
for (const group of new Set(all(".n").map((number) => number.closest(NEAR)))) {
  all(".n", group).forEach((number, index) => {
    number.tabIndex = index ? -1 : 0;
    number.setAttribute("role", "button");
    number.setAttribute("aria-description", "source of this number");
  });
}
document.addEventListener("click", (event) => {
  const number = event.target.closest(".n");
  if (number) tell(number);
  else if (!event.target.closest("#source")) source.textContent = "";
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") source.textContent = "";
  const number = event.target.closest && event.target.closest(".n");
  if (!number) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    tell(number);
  }
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const near = numbersNear(number);
  const next = near[near.indexOf(number) + step];
  if (!next) return;
  number.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});

// Tables: sort by a column, copy as Markdown or LaTeX.
const sortBy = (table, head) => {
  const column = [...head.parentNode.children].indexOf(head);
  const down = head.getAttribute("aria-sort") === "ascending";
  const body = table.tBodies[0];
  const value = (row) => row.cells[column].textContent.trim();
  const number = (text) => parseFloat(text.replace(/,/g, ""));
  const numeric = [...body.rows].every((row) => !/[0-9]/.test(value(row)) || !Number.isNaN(number(value(row))));
  const order = (one, other) => {
    const [a, b] = [value(one), value(other)];
    const [x, y] = [number(a), number(b)];
    if (numeric && (Number.isNaN(x) || Number.isNaN(y))) return Number.isNaN(x) - Number.isNaN(y);
    return (numeric ? x - y : a.localeCompare(b)) * (down ? -1 : 1);
  };
  all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...[...body.rows].sort(order));
};
const texts = (table) => [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim()));
const asMarkdown = (table) => {
  const rows = texts(table).map((row) => `| ${row.map((text) => text.replace(/\|/g, "\\|")).join(" | ")} |`);
  rows.splice(1, 0, `|${" --- |".repeat(table.rows[0].cells.length)}`);
  return rows.join("\n");
};
const TEX = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" };
const asLatex = (table) => {
  const escape = (text) => text.replace(/[\\~^&%$#_{}]/g, (sign) => TEX[sign] || `\\${sign}`);
  const rows = texts(table).map((row) => `${row.map(escape).join(" & ")} \\\\`);
  rows.splice(1, 0, "\\midrule");
  const columns = "l".repeat(table.rows[0].cells.length);
  return [`\\begin{tabular}{${columns}}`, "\\toprule", ...rows, "\\bottomrule", "\\end{tabular}"].join("\n");
};
const copy = async (text, pressed) => {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    pressed.focus();
  }
  source.textContent = "Copied.";
};
for (const table of all("table")) {
  const name = table.closest(".wide").getAttribute("aria-label");
  const tools = make("div", { className: "tools" });
  for (const [what, written] of [["Markdown", asMarkdown], ["LaTeX", asLatex]]) {
    const label = { label: `Copy ${name} as ${what}` };
    tools.append(button(`Copy as ${what}`, (pressed) => copy(written(table), pressed), { aria: label }));
  }
  table.closest(".wide").after(tools);
  if (table.classList.contains("matrix")) continue;
  for (const head of all("thead th", table)) {
    if (!head.textContent.trim()) continue;
    const sort = button(head.textContent, () => sortBy(table, head), { title: "Sort by this column" });
    head.replaceChildren(sort);
  }
}

// The confusion matrix: percent or counts, and the images behind a cell.
for (const matrix of all(".matrix")) {
  const cells = all("td", matrix);
  const written = (cell) => cell.querySelector("a") || cell;
  cells.forEach((cell) => (cell.dataset.share = cell.textContent));
  const shown = make("p", { className: "caption" });
  shown.setAttribute("role", "status");
  const toggle = button("Show counts", (pressed) => {
    const counts = pressed.textContent === "Show counts";
    cells.forEach((cell) => (written(cell).textContent = counts ? cell.dataset.count : cell.dataset.share));
    pressed.textContent = counts ? "Show percent" : "Show counts";
  });
  matrix.closest(".wide").nextElementSibling.prepend(toggle);
  matrix.closest("figure").append(shown);
  const behind = (cell) => {
    const heads = all("thead th", matrix);
    const words = `${cell.parentNode.cells[0].textContent} taken for ${heads[cell.cellIndex].textContent}`;
    shown.textContent = `${words}, most in ${cell.dataset.images}`;
  };
  for (const cell of cells.filter((one) => one.dataset.images && written(one) === one)) {
    cell.tabIndex = 0;
    cell.addEventListener("click", () => behind(cell));
    cell.addEventListener("keydown", (event) => event.key === "Enter" && behind(cell));
  }
}

// Phases and classes of a chart are switched on and off.
const switches = (figure, names) => {
  const tools = make("div", { className: "tools" });
  for (const name of names) {
    const turn = (pressed) => {
      const off = pressed.getAttribute("aria-pressed") === "true";
      pressed.setAttribute("aria-pressed", String(!off));
      all("[data-series]", figure).forEach((part) => part.dataset.series === name && part.classList.toggle("off", off));
    };
    tools.append(button(name, turn, { aria: { pressed: "true" }, title: `Show or hide ${name}` }));
  }
  return tools;
};
for (const figure of all("figure.chart, figure.intervals")) {
  const names = [...new Set(all("[data-series]", figure).map((part) => part.dataset.series))];
  if (names.length > 1) figure.querySelector("figcaption").before(switches(figure, names));
}

// The confidence slider: precision, recall and F1 of every class, and the dotted line of the F1 curve.
for (const place of all(".slider")) {
  const { confidence, points } = JSON.parse(place.dataset.slider);
  const nearest = (value) => confidence.reduce((best, c, i) => (Math.abs(c - value) < Math.abs(confidence[best] - value) ? i : best), 0);
  const shown = make("output", { className: "caption" });
  const range = make("input", { type: "range", min: 0, max: confidence.length - 1, value: nearest(Number(place.dataset.start)) });
  const rule = place.closest("figure").querySelector('[id*="rule-1-0"]');
  const axis = place.closest("figure").querySelectorAll('[id$="axes_2"] [id$="patch_2"], [id$="axes_2"] > g > path')[0];
  const started = confidence[range.value];
  const update = () => {
    const at = Number(range.value);
    const said = Object.entries(points).map(([name, rows]) => {
      const [precision, recall, f1] = rows[at].map((value) => value.toFixed(3));
      return `${name}: precision ${precision}, recall ${recall}, F1 ${f1}`;
    });
    shown.textContent = `At confidence ${confidence[at].toFixed(2)}: ${said.join("; ")}`;
    if (rule && axis) rule.setAttribute("transform", `translate(${(confidence[at] - started) * axis.getBBox().width} 0)`);
  };
  range.addEventListener("input", update);
  place.append(make("label", {}, "Confidence ", range), shown);
  place.hidden = false;
  update();
}

// A picture opens larger; where it has the truth and the prediction, a slider moves between the two.
const dialog = make("dialog", { aria: { label: "Sample picture" } });
document.body.append(dialog);
const panel = (image, names, name) => {
  const share = names.length > 1 ? (100 * names.indexOf(name)) / (names.length - 1) : 0;
  return `background-image: url(${image.src}); background-position: ${share}% 0`;
};
const enlarge = (image) => {
  const names = image.dataset.panels.split("|");
  const parts = [make("img", { src: image.src, alt: image.alt })];
  if (names.includes("truth") && names.includes("prediction")) {
    const under = make("div", { className: "compare" });
    const over = make("div");
    under.style.cssText = panel(image, names, "prediction");
    over.style.cssText = panel(image, names, "truth");
    under.style.backgroundSize = `${100 * names.length}% 100%`;
    under.style.aspectRatio = `${image.naturalWidth / names.length} / ${image.naturalHeight}`;
    const range = make("input", { type: "range", min: 0, max: 100, value: 50, aria: { label: "From prediction to truth" } });
    const move = () => {
      over.style.width = `${range.value}%`;
      over.style.backgroundSize = `${under.clientWidth * names.length}px ${under.clientHeight}px`;
      over.style.backgroundPosition = `${-under.clientWidth * names.indexOf("truth")}px 0`;
    };
    range.addEventListener("input", move);
    under.append(over);
    parts.push(make("p", { className: "caption", textContent: "Left of the line: truth; right of it: prediction." }), under, range);
    requestAnimationFrame(move);
  }
  dialog.replaceChildren(button("Close", () => dialog.close()), ...parts);
  dialog.showModal();
};
for (const image of all(".sample img")) {
  const open = button("", () => enlarge(image), { className: "enlarge", aria: { label: `Enlarge. ${image.alt}` } });
  image.replaceWith(open);
  open.append(image);
}

// A link opens what it leads to; paper shows everything.
const unfold = () => {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  const folded = target.querySelector(":scope > details") || target.closest("details");
  if (!folded || folded.open) return;
  folded.open = true;
  target.scrollIntoView();
};
addEventListener("hashchange", unfold);
addEventListener("beforeprint", () => all("details").forEach((folded) => (folded.open = true)));
unfold();
