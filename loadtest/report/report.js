"use strict";

// Plots: each .plot holds its figure as JSON.
const plots = [...document.querySelectorAll(".plot")];
for (const plot of plots) {
  const figure = JSON.parse(plot.querySelector("script").textContent);
  plot.replaceChildren();
  if (plot.clientWidth < 480) {  // a phone: names beside points have no room, a tap tells them
    delete figure.layout.annotations;
    figure.layout.font.size = 10.5;
  }
  Plotly.newPlot(plot, figure.data, figure.layout, { responsive: true, displaylogo: false, displayModeBar: false });
  plot.on("plotly_click", (event) => pick(event.points[0].data.meta));
}

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
  for (const plot of plots) {
    const shown = plot.data.map(({ meta }) => variant === "" || meta === undefined || meta === variant);
    Plotly.restyle(plot, { opacity: shown.map((yes) => (yes ? 1 : 0.08)) });
  }
}

menu.addEventListener("change", () => pick(menu.value));
document.addEventListener("click", (event) => pick(event.target.closest("[data-pick]")?.dataset.pick));

// Sorting: a click on a heading sorts by it, a second click turns the order; what was not measured stays last.
const table = document.querySelector("table.cells");
const headings = [...(table?.tHead.rows[0].cells ?? [])];  // a run that only searched has no such table

function key(row, index) {
  const value = row.cells[index].dataset.value;
  if (value === "") return null;
  return Number.isNaN(Number(value)) ? value : Number(value);
}

function compare(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  return direction * (a < b ? -1 : a > b ? 1 : 0);
}

headings.forEach((heading, index) => {
  heading.querySelector("button").addEventListener("click", () => {
    const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    headings.forEach((other) => other.setAttribute("aria-sort", "none"));
    heading.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort((a, b) => compare(key(a, index), key(b, index), direction)));
  });
});

// Images of flips: each is in the page once, and drawn when the variant's list is opened.
const images = JSON.parse(document.querySelector("#images").textContent);
for (const list of document.querySelectorAll("details.flips")) {
  list.addEventListener("toggle", () => {
    for (const image of list.querySelectorAll("img:not([src])")) image.src = images[image.dataset.image];
  });
}

// Printing: plots are drawn anew at the width of the sheet, with smaller letters.
function fit(printing) {
  document.body.classList.toggle("printing", printing);
  for (const plot of plots) {
    const change = { width: plot.clientWidth, autosize: !printing, "font.size": printing ? 9 : 13 };
    plot.layout.annotations?.forEach((_, i) => (change[`annotations[${i}].font.size`] = printing ? 6.5 : 11.5));
    Plotly.relayout(plot, change);
  }
}

addEventListener("beforeprint", () => fit(true));
addEventListener("afterprint", () => fit(false));
