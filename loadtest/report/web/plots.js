// Plots: each .plot holds its figure as JSON. It is drawn when it comes into view, and anew when the decision has changed
// and it is in view: variants that matter have their colours, the others are grey, limits are where the reader set them.
const OTHERS = "#94a3b8", INK = "#64748b", LIMIT = "#c2410c", RINGED = 24, BESIDE = 520, LEGEND = 150, NARROW = 260, MOST_STACKED = 4;
const SETTINGS = { displaylogo: false, displayModeBar: false };
const THE_OTHERS = "others<br>(hover to name)";
const plots = [...document.querySelectorAll(".plot")];
const figures = new Map(plots.map((plot) => [plot.id, JSON.parse(plot.querySelector("script").textContent)]));
const drawn = new Set(), stale = new Set(plots);
let view = { decision: decide(run, chosen.limits), ...chosen };
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

// The variants that matter, each with what it is called.
function roles() {
  const at = view.decision.loads.find(({ load }) => load === view.decision.shown);
  const found = new Map();
  for (const { variant, place } of at?.standings ?? []) {
    if (["winner", "runner-up", "nearest", "frontier"].includes(place)) found.set(variant, place);
  }
  if (run.baseline) found.set(run.baseline, [found.get(run.baseline), "FP32"].filter(Boolean).join(", "));
  return found;
}

function isStrong(variant) {
  return view.picked.size ? view.picked.has(variant) : roles().has(variant);
}

// The picture shows the plot of the load that decides.
function figureOf(plot) {
  return plot.id === "picture" ? figures.get(`p99-${view.decision.shown}`) : figures.get(plot.id);
}

// Traces as they are drawn: strong ones last, and one line of the legend for each of them and one for all others.
function traces(data) {
  const variants = new Set(data.map(({ meta }) => meta).filter((meta) => meta !== undefined));
  const all = ![...variants].some(isStrong);
  const named = roles(), listed = new Set();
  const found = data.map((trace) => {
    if (trace.legendgroup === undefined) return trace.name ? trace : { ...trace, showlegend: false };
    const strong = all || isStrong(trace.meta), bar = trace.type === "bar";
    const key = bar ? trace.name : strong ? trace.meta : "";
    const first = (strong || !bar) && !listed.has(key);
    if (first) listed.add(key);
    const shown = { ...trace, legendgroup: undefined, showlegend: first, legendrank: strong ? 1 : 2000 };
    if (bar) return { ...shown, opacity: strong ? 1 : 0.3 };
    return strong ? { ...shown, name: inLegend(trace.name, named.get(trace.meta)) } : { ...grey(shown), name: THE_OTHERS };
  });
  return data.some(({ type }) => type === "bar") ? found : found.sort((a, b) => (a.legendrank === 1) - (b.legendrank === 1));
}

// A long name takes two lines, so that the plot keeps its room, and what the variant is called another one.
function inLegend(name, role) {
  const text = name.length > 18 ? name.replace(/-([^-]*)$/, "-<br>$1") : name;
  return role ? `${text}<br>(${role})` : text;
}

function grey(trace) {
  const marker = trace.marker && { ...trace.marker, color: OTHERS, line: { ...trace.marker.line, color: OTHERS } };
  const line = trace.line && { ...trace.line, color: OTHERS, width: 1 };
  return { ...trace, opacity: 0.55, ...(marker && { marker }), ...(line && { line }) };
}

// The ends of an axis: values and some room, and the limit unless that would leave the values less than this share of it.
function ends(values, limit, least, share) {
  let low = Math.min(...values), high = Math.max(...values);
  const room = 0.18 * Math.max(high - low, least);
  [low, high] = [low - room, high + room];
  if (limit !== null) {
    const wide = [Math.min(low, limit - room), Math.max(high, limit + room)];
    if (high - low > share * (wide[1] - wide[0])) return wide;
  }
  return [low, high];
}

// Limits, the feasible area, a ring around the winner and names, drawn into a plot of accuracy against a cost.
function withLimits(data, layout, wide, share) {
  const { limit, base } = layout.meta, [frontier, ...points] = data;
  const most = view.limits[limit] ?? null, drop = view.limits.max_drop ?? null;
  const floor = base === null || drop === null ? null : base - drop / 100;
  const xs = ends(points.map(({ x }) => Math.log10(x[0])), most && Math.log10(most), 0.1, share);
  const ys = ends(points.map(({ y }) => y[0]), floor, 0.002, share);
  const named = points.filter(({ meta }) => roles().has(meta) || view.picked.has(meta));
  const winner = points.find(({ meta }) => roles().get(meta)?.startsWith("winner"));
  const ring = winner && { ...winner, meta: undefined, showlegend: false, hoverinfo: "skip", hovertemplate: null,
    marker: { symbol: "circle-open", size: RINGED, color: INK, line: { width: 2.5, color: INK } } };
  const size = [wide - 100, layout.height - 80];
  return {
    data: [{ ...frontier, showlegend: frontier.x.length > 1 }, ...points, ...(ring ? [ring] : [])],
    layout: { ...layout,
      xaxis: { ...layout.xaxis, range: xs },
      yaxis: { ...layout.yaxis, range: ys },
      shapes: lines(limit, most, floor, xs, ys),
      annotations: [...limitNames(limit, most, floor, xs, ys), ...names(named, points, xs, ys, size)],
    },
  };
}

function lines(limit, most, floor, xs, ys) {
  if (most === null && floor === null) return [];
  const style = { type: "line", line: { color: LIMIT, width: 1.5, dash: "dash" } };
  const area = { name: "feasible", type: "rect", layer: "below", fillcolor: "rgba(13,148,136,0.12)", line: { width: 0 } };
  const end = most ?? 10 ** (xs[1] + 9), left = limit === "rate" ? [end, 10 ** (xs[1] + 9)] : [10 ** (xs[0] - 9), end];
  const across = most === null ? [10 ** (xs[0] - 9), end] : left;
  return [
    { ...area, x0: across[0], x1: across[1], y0: floor ?? ys[0] - 9, y1: ys[1] + 9 },
    ...(most === null ? [] : [{ ...style, name: "limit", x0: most, x1: most, yref: "paper", y0: 0, y1: 1 }]),
    ...(floor === null ? [] : [{ ...style, name: "floor", y0: floor, y1: floor, xref: "paper", x0: 0, x1: 1 }]),
  ];
}

// What the limits are, at their lines; one beyond an axis is told at that end of it.
function limitNames(limit, most, floor, xs, ys) {
  const style = { showarrow: false, font: { size: 11.5, color: LIMIT } }, found = [];
  const words = { p99: (ms) => `p99 limit ${ms} ms`, rate: (rps) => `${rps} requests/s`, max_size: (mb) => `${mb} MB` }[limit];
  if (most !== null) {
    const x = Math.log10(most), beyond = x > xs[1] ? 1 : x < xs[0] ? -1 : 0;
    const at = beyond ? { xref: "paper", x: beyond > 0 ? 1 : 0, xanchor: beyond > 0 ? "right" : "left" } : { x };
    found.push({ ...style, ...at, yref: "paper", y: 1, yanchor: "bottom", text: ["← ", "", ""][beyond + 1] + words(most) + ["", "", " →"][beyond + 1] });
  }
  if (floor !== null) {
    const below = floor < ys[0], above = floor > ys[1];
    const at = below || above ? { yref: "paper", y: below ? 0 : 1 } : { y: floor };
    const text = `accuracy floor ${+(100 * floor).toFixed(2)}%${below ? " ↓" : above ? " ↑" : ""}`;
    found.push({ ...style, ...at, xref: "paper", x: 1, xanchor: "right", yanchor: above ? "top" : "bottom", text });
  }
  return found;
}

// Names beside points, each where it covers no point and no other name.
function names(named, points, xs, ys, [width, height]) {
  const place = ({ x, y }) => [(Math.log10(x[0]) - xs[0]) / (xs[1] - xs[0]) * width, (ys[1] - y[0]) / (ys[1] - ys[0]) * height];
  const taken = points.map(place).map(([x, y]) => [x - 7, y - 7, x + 7, y + 7]);
  const ways = [22, -22, 42, -42, 62, -62, 82, -82].flatMap((dy) => [[18, dy], [-18, dy]]);
  return named.map((point) => {
    const role = roles().get(point.meta), text = escaped(point.meta) + (role && width > NARROW ? ` (${role})` : "");
    const [x, y] = place(point), long = 6.6 * text.length;
    const box = ([dx, dy]) => [x + dx - (dx < 0 ? long : 0), y + dy - 8, x + dx + (dx < 0 ? 0 : long), y + dy + 8];
    const inside = ([left, top, right, bottom]) => left > 0 && right < width && top > 0 && bottom < height;
    const free = (a) => !taken.some((b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]);
    const way = ways.find((each) => inside(box(each)) && free(box(each))) ?? ways.find((each) => inside(box(each))) ?? ways[0];
    taken.push(box(way));
    return { x: Math.log10(point.x[0]), y: point.y[0], text, ax: way[0], ay: way[1], xanchor: way[0] < 0 ? "right" : "left",
      arrowwidth: 1, arrowhead: 0, arrowcolor: INK, standoff: 7, font: { size: 11.5 } };
  });
}

// The variants that matter one below the other, on the same axes.
function stacked({ data, layout }) {
  const strong = [...(view.picked.size ? view.picked : roles().keys())];
  const mine = strong.map((variant) => data.find(({ meta }) => meta === variant)).filter(Boolean);
  const shown = (mine.length ? mine : data).slice(0, MOST_STACKED), count = shown.length;
  const parts = shown.map((_, i) => [1 - (i + 1) / count + 0.12 / count, 1 - i / count - 0.04 / count]);
  const axes = Object.fromEntries(parts.map((domain, i) => [i ? `yaxis${i + 1}` : "yaxis", { ...layout.yaxis, domain }]));
  return {
    data: shown.map((trace, i) => ({ ...trace, yaxis: i ? `y${i + 1}` : "y" })),
    layout: { ...layout, ...axes, height: 80 + layout.height * count,
      xaxis: { ...layout.xaxis, anchor: count > 1 ? `y${count}` : "y" },
      annotations: shown.map((trace, i) => ({ text: `<b>${trace.name}</b>`, showarrow: false, xref: "paper", x: 0, xanchor: "left",
        yref: "paper", y: parts[i][1], yanchor: "bottom", font: { size: 12 } })),
    },
  };
}

function draw(plot) {
  const figure = figureOf(plot);
  if (plot.id === "picture") describePicture(plot, figure);
  if (!figure || !plot.clientWidth) return;
  const first = !drawn.has(plot), printing = document.body.classList.contains("printing");
  const beside = plot.clientWidth >= BESIDE, legend = beside ? {} : { orientation: "h", x: 0, y: -75 / (figure.layout.height - 150), yanchor: "top" };
  const { limit, stacks } = figure.layout.meta ?? {}, letters = printing ? 9 : beside ? 13 : 10.5;
  let { data, layout } = stacks ? stacked(figure) : { data: traces(figure.data), layout: figure.layout };
  layout = { ...layout, width: plot.clientWidth, font: { ...layout.font, size: letters },
    legend: { ...layout.legend, ...legend, font: { size: letters - 1 } } };
  const share = plot.id === "picture" ? 0.25 : 0.5;  // the picture is of the limits too
  if (limit) ({ data, layout } = withLimits(data, layout, plot.clientWidth - (beside ? LEGEND : 0), share));
  if (printing) layout = { ...layout, annotations: layout.annotations?.map(smaller) };
  if (first) plot.replaceChildren();
  Plotly.react(plot, data, layout, SETTINGS);
  if (first) plot.on("plotly_click", (event) => pick(event.points[0].data.meta));
  if (first) plot.on("plotly_legendclick", ({ data: all, curveNumber }) => pickListed(all[curveNumber]));
  drawn.add(plot);
  stale.delete(plot);
}

function smaller(annotation) {
  return { ...annotation, font: { ...annotation.font, size: 8 } };
}

// A click on the legend picks, as one on a point does, and hides nothing.
function pickListed({ type, meta, name }) {
  if (type !== "bar" && name !== THE_OTHERS) pick(meta);
  return false;
}

// The picture's heading, and what it leaves out, are those of the plot that it shows.
function describePicture(plot, figure) {
  const key = view.decision.shown, load = run.loads.find((each) => each.key === key), source = document.getElementById(`p99-${key}`), card = plot.closest(".card");
  card.querySelector("h3").textContent = `Accuracy against p99${load ? `, ${load.name}` : ""}`;
  const leftOut = card.querySelector(".left-out");
  leftOut.textContent = source?.closest(".card").querySelector(".left-out").textContent ?? "";
  leftOut.hidden = leftOut.textContent === "";
  if (figure) return;
  if (drawn.delete(plot)) Plotly.purge(plot);
  plot.textContent = source?.textContent ?? "";
}

const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    observer.unobserve(target);
    draw(target);
  }
}, { rootMargin: "150px" });

// Draws a plot now if it is in view, or else when it comes into view.
function drawInView(plot) {
  stale.add(plot);
  observer.unobserve(plot);
  observer.observe(plot);
}

for (const plot of plots) {
  plot.style.minHeight = `${figureOf(plot)?.layout.height ?? 0}px`;
  drawInView(plot);
}

addEventListener("resize", () => plots.forEach(drawInView));
document.addEventListener("decided", ({ detail }) => {
  view = { ...detail, picked: new Set(detail.picked) };
  plots.forEach(drawInView);
});
