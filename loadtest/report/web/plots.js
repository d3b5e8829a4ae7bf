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
