// What the reader chose: limits, and variants to look at. The URL's hash keeps it; every change is told as "decided".
const run = JSON.parse(document.querySelector("#run").textContent);
const chosen = { limits: { ...run.limits }, picked: new Set() };

function choose({ limits = {}, picked = chosen.picked }) {
  chosen.limits = { ...chosen.limits, ...limits };
  chosen.picked = new Set(picked);
  const said = new URLSearchParams();
  for (const [name, limit] of Object.entries(chosen.limits)) {
    if (limit !== run.limits[name]) said.set(name, limit ?? "");
  }
  for (const variant of chosen.picked) said.append("only", variant);
  history.replaceState(null, "", String(said) ? `#${said}` : location.pathname + location.search);
  tellDecision();
}

function limitOf(text) {
  const limit = Number(text);
  return text !== "" && Number.isFinite(limit) && limit >= 0 ? limit : null;
}

function readHash() {
  if (location.hash && !location.hash.includes("=")) return;  // a link to a section
  const said = new URLSearchParams(location.hash.slice(1));
  const options = [...document.querySelector("#menu").options].filter((option) => option.value && !option.hidden);
  const names = new Set(options.map((option) => option.value));
  for (const [name, asked] of Object.entries(run.limits)) {
    chosen.limits[name] = said.has(name) ? limitOf(said.get(name)) : asked;
  }
  chosen.picked = new Set(said.getAll("only").filter((name) => names.has(name)));
}

function tellDecision() {
  const detail = { decision: decide(run, chosen.limits), ...chosen };
  document.dispatchEvent(new CustomEvent("decided", { detail }));
}

addEventListener("DOMContentLoaded", () => { readHash(); tellDecision(); });
addEventListener("hashchange", () => { readHash(); tellDecision(); });
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');  // a section is shown, and the hash stays
  if (!link) return;
  event.preventDefault();
  document.querySelector(link.getAttribute("href"))?.scrollIntoView();
});
