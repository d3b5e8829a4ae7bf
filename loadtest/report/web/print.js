// Printing: all plots are drawn, at the width of the sheet and with smaller letters.
function fit(printing) {
  document.body.classList.toggle("printing", printing);
  for (const plot of plots) {
    if (printing || drawn.has(plot)) draw(plot);
  }
}

addEventListener("beforeprint", () => fit(true));
addEventListener("afterprint", () => fit(false));
