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
