// Filtering: once a variant is picked, in a plot, a table or the menu, the page shows the others dimmed or not at all.
const menu = document.querySelector("#menu");
const filtered = document.querySelector("#filtered");

function pick(variant) {
  if (variant === undefined) return;
  menu.value = variant;
  filtered.hidden = variant === "";
  filtered.querySelector("b").textContent = variant;
  for (const element of document.querySelectorAll("[data-variant]")) {
    element.hidden = variant !== "" && element.dataset.variant !== variant;
  }
  for (const card of document.querySelectorAll("[data-of-variants]")) {
    card.hidden = variant !== "" && !card.querySelector("[data-variant]:not([hidden])");
  }
  for (const plot of plots) {
    const shown = plot.data.map(({ meta }) => variant === "" || meta === undefined || meta === variant);
    Plotly.restyle(plot, { opacity: shown.map((yes) => (yes ? 1 : 0.08)) });
  }
}

menu.addEventListener("change", () => pick(menu.value));
document.addEventListener("click", (event) => pick(event.target.closest("[data-pick]")?.dataset.pick));
