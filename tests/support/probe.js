// Runs after the script of a report page and leaves what it finds wrong in an element with the id "found".
{ const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const found = {faults, unnamed: [], headless: [], contrast: [], duplicates: [], requests: []};
const name = (element) => {
  const by = element.getAttribute("aria-labelledby");
  const text = by ? by.split(" ").map((id) => document.getElementById(id)?.textContent || "").join("") : "";
  return (text || element.getAttribute("aria-label") || element.getAttribute("alt") || element.textContent).trim();
};
all("svg[role=img], svg:not([role]), img, button, nav, [role=region], input").forEach((element) => {
  const named = element.tagName === "svg" ? element.getAttribute("role") && (element.hasAttribute("aria-label") ||
    document.getElementById(element.getAttribute("aria-labelledby"))?.textContent.trim()) : name(element) || element.labels?.length;
  if (!named) found.unnamed.push(element.outerHTML.slice(0, 120));
});
all("table").forEach((table) => {
  const heads = [...table.rows[0].cells];
  const good = heads.length && heads.every((head) => head.tagName === "TH" && head.scope === "col" && head.textContent.trim()) &&
    [...table.tBodies[0].rows].every((row) => row.cells[0].tagName === "TH" && row.cells[0].scope === "row");
  if (!good) found.headless.push(table.textContent.slice(0, 80));
});
const ids = all("[id]").map((element) => element.id);
found.duplicates = ids.filter((id, index) => ids.indexOf(id) !== index);
found.requests = performance.getEntriesByType("resource").map((entry) => entry.name).filter((url) => !url.startsWith("data:"));
const rgb = (text) => (text.match(/[\d.]+/g) || []).map(Number).map((value) => (text.startsWith("color(srgb") ? 255 * value : value));
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = rgb(getComputedStyle(at).backgroundColor);
    if (color.length === 3) return color;
  }
  return [255, 255, 255];
};
all("p, li, td, th, dt, dd, a, button, figcaption, .score, .said, .name").filter((element) => element.offsetParent).forEach((element) => {
  const [one, other] = [light(rgb(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
  if ((one + 0.05) / (other + 0.05) < 4.5) found.contrast.push(element.outerHTML.slice(0, 100));
});
found.words = document.getElementById("main").innerText.split(/\s+/).length;
found.width = document.documentElement.scrollWidth - document.documentElement.clientWidth;
__MORE__
document.body.append(Object.assign(document.createElement("pre"), {id: "found", textContent: JSON.stringify(found)}));
}
