// The first screen: limits as inputs, the card with the answer, and the variants against the limits, load by load.
{
  const form = document.querySelector("#limits"), card = document.querySelector("#answer");
  const details = document.querySelector("#loads"), brackets = document.querySelector("#brackets");
  const verdicts = {
    winner: "ships", "runner-up": "runner-up", close: "not clearly slower", beaten: "clearly slower",
    nearest: "nearest", "ruled out": "ruled out",
  };
  const MOST_NAMED = 3;
  let shownBefore;

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children.flat().filter((child) => child !== null));
    return element;
  }

  function name(variant) {
    const title = "choose this variant: the page shows the chosen ones";
    return make("button", { type: "button", class: "name", "data-pick": variant, title }, variant);
  }

  const loadName = (key) => run.loads.find((load) => load.key === key).name;
  const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
  const isAsked = (limits) => Object.keys(limits).every((name) => limits[name] === run.limits[name]);
  const meeting = (standings) => standings.filter(({ place }) => !["nearest", "ruled out"].includes(place));
  const sentence = ({ cell, reasons, stopped }) => {
    return `${[cell.figures, ...reasons.filter((each) => each !== stopped)].join("; ")}.`;
  };

  // The card.

  function showAnswer({ loads, shown: key }, isFree) {
    const decided = loads.find((each) => each.load === key);
    const hasAnswer = isFree ? loads.some(({ standings }) => standings.length) : decided.winner !== null;
    card.classList.toggle("none", !hasAnswer);
    card.replaceChildren(...(isFree ? frontiers(loads) : hasAnswer ? winner(decided) : nearest(decided)));
  }

  function winner(decided) {
    const [best, second] = decided.standings;
    const parts = [
      make("p", {}, "Ship ", make("strong", {}, name(best.variant)),
        make("span", { class: "soft" }, ` at ${loadName(decided.load)}`)),
      numbers(best.cell), make("p", {}, why(decided)), make("p", {}, sureness(decided.standings)),
      make("p", { class: "soft" }, served(best.cell)),
    ];
    if (decided.runner_up !== null) {
      const named = make("b", {}, name(second.variant));
      parts.push(make("p", { class: "runner-up" }, "Runner-up: ", named, ": ", sentence(second)));
    }
    const fp32 = decided.standings.slice(2).find(({ variant }) => variant === run.baseline);
    if (fp32) parts.push(make("p", {}, "FP32: ", make("b", {}, name(fp32.variant)), `: ${fp32.cell.figures}.`));
    return [...parts, ...early()];
  }

  function numbers({ p50, p99, samples, rps, facts, evidence }) {
    const megabytes = (bytes) => (bytes === null ? null : bytes / 1e6);
    const accuracy = facts.evidence.max_drop.text.replace(`${run.metric} is `, `${run.metric}, `) || run.metric;
    const few = `p99: not enough samples (${samples} of ${run.rules.samples})`;
    const always = [
      [p50, "{:.2f} ms", "p50"], [p99, "{:.2f} ms", p99 === null ? few : `p99${span(...evidence.p99.interval)}`],
      [rps, "{:,.0f}", "requests/s"], [facts.quality, "{:.2%}", accuracy],
    ];
    const sizes = [
      [megabytes(facts.artifact_bytes), "{:.2f} MB", "on disk"],
      [megabytes(facts.memory_bytes), "{:.1f} MB", "of memory"],
    ];
    const all = [...always, ...sizes.filter(([value]) => value !== null)];
    return make("div", { class: "numbers" }, all.map(([value, form, label]) => make("div", {},
      make("b", {}, value === null ? "n/a" : format(form, value)), " ", make("span", {}, label))));
  }

  // What the winner was chosen from and by what, for a reader who does not know how this project chooses.
  function why({ load, standings, byThroughput }) {
    const [best, second] = standings, able = meeting(standings), where = loadName(load);
    if (standings.length === 1) return `It is the only variant, and meets every limit at ${where}.`;
    const all = count(standings.length, "variant");
    if (able.length === 1) return `It is the only one of ${all} that meets every limit at ${where}.`;
    const speed = ({ cell }) => (byThroughput ? cell.rps : -(cell.p99 ?? Infinity));
    const figure = byThroughput ? "answers the most requests per second" : "has the lowest p99";
    const chosen = `${able.length} of ${all} meet every limit at ${where}`;
    if (speed(best) >= speed(second)) return `${chosen}; of these it ${figure}.`;
    if (second.slower) {
      return `${chosen}. Of these ${second.variant} ${figure}, but compared round by round it is clearly slower.`;
    }
    const isExact = best.cell.facts.more_accurate_than.includes(second.cell.facts.number);
    const isSmaller = best.cell.facts.artifact_bytes < (second.cell.facts.artifact_bytes ?? Infinity);
    const merit = isExact ? "more accurate" : isSmaller ? "smaller" : null;
    const better = merit === null ? "" : `, and ${best.variant} is ${merit}`;
    return `${chosen}. Of these ${second.variant} ${figure}, but it is not clearly faster${better}.`;
  }

  function sureness([best, ...others]) {
    const doubts = best.judgements.filter(({ state }) => state !== "met"), able = meeting(others);
    const parts = [doubts.map(({ text }) => text).join("; ") || "every limit is met with 95% confidence"];
    const slower = able.filter((each) => each.slower).length, rest = able.length - slower;
    const all = slower === 1 ? "the other one" : `all ${slower} others`;
    const those = rest ? `${slower} of the ${able.length} others` : all;
    if (slower) parts.push(`${those} ${slower === 1 ? "is" : "are"} clearly slower, with 95% confidence in all together`);
    const named = able.filter((each) => !each.slower).map(({ variant }) => variant).join(", ");
    if (rest) parts.push(`${rest <= MOST_NAMED ? named : `${rest} others`} may be as fast`);
    return `How sure: ${parts.join("; ")}. In brackets: what each figure lies between with that confidence.`;
  }

  function served({ facts, cpu_us: cpu, batch_rows: rows }) {
    const parts = [[facts.precision, facts.runtime].filter((each) => each).join(" by ") || "unknown runtime"];
    if (facts.serving) parts.push(facts.serving);
    if (rows !== null) parts.push(format("{:.1f} rows in each run of the engine on average", rows));
    if (cpu !== null) parts.push(format("{:,.0f} µs of server CPU per request", cpu));
    return parts.join("; ");
  }

  // Who was stopped early was stopped for the limits that were asked.
  function early() {
    const said = "The run measured until the limits that were asked had an answer: variants that it stopped early have "
      + "fewer calls, so under these limits less is sure.";
    return isAsked(chosen.limits) || !run.stops.length ? [] : [make("p", { class: "soft" }, said)];
  }

  function nearest({ load, standings: [best] }) {
    return [
      make("p", { class: "refusal" }, `No variant meets every limit at ${loadName(load)}.`),
      make("p", { class: "runner-up" }, "Nearest: ", make("b", {}, name(best.variant)), ": ", sentence(best)),
    ];
  }

  function frontiers(loads) {
    const found = loads.filter(({ standings }) => standings.length);
    if (!found.length) {
      const known = run.variants.some(({ quality }) => quality !== null);
      const unknown = "the server does not say how accurate its variants are";
      const reason = known ? "no measurement is valid, see the warnings" : unknown;
      return [make("p", { class: "refusal" }, `No answer: ${reason}.`)];
    }
    const said = "No limits are set, so no variant is ruled out; with a limit one ships. None of these is beaten in "
      + "both p99 and accuracy:";
    const point = (each) => make("li", {}, make("b", {}, name(each.variant)), make("br", {}), sentence(each));
    return [make("p", {}, said), ...found.flatMap(({ load, standings }) => [
      make("h3", { class: "lead" }, loadName(load)), make("ul", { class: "frontier" }, standings.map(point)),
    ])];
  }

  // The variants against the limits, and why the others do not ship.

  function showLoads({ loads, shown: key }, isFree) {
    const kept = [...details.children].filter(({ open }) => open).map(({ dataset }) => dataset.load);
    const open = key === shownBefore ? kept : [key];
    details.replaceChildren(...(isFree ? [] : loads.map((decided) => underLoad(decided, open.includes(decided.load)))));
    brackets.hidden = isFree;
    shownBefore = isFree ? null : key;
  }

  function underLoad({ load, winner, standings }, isOpen) {
    const said = winner === null ? "nothing to ship, nearest is" : "ship";
    const element = make("details", { class: "card standings", "data-load": load },
      make("summary", {}, `${loadName(load)}: ${said} ${standings[0].variant}`),
      make("div", { class: "inner scroll" }, matrix(standings)),
      winner === null ? reasons(standings, "Why none ships") : reasons(standings.slice(1), "Why not the others"));
    element.open = isOpen;
    return element;
  }

  function matrix(standings) {
    const headings = ["variant", ...standings[0].judgements.map(heading), "verdict"];
    const judged = (each) => make("td", { class: each.state, title: each.text },
      `${shown(each)} `, make("i", {}, each.state));
    const row = ({ variant, place, judgements }) => make("tr", { "data-variant": variant, class: place },
      make("td", {}, name(variant)), judgements.map(judged), make("td", {}, verdicts[place]));
    return make("table", { class: "plain matrix" },
      make("thead", {}, make("tr", {}, headings.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, standings.map(row)));
  }

  function reasons(others, title) {
    if (!others.length) return null;
    const reason = (each) => make("li", { "data-variant": each.variant }, make("b", {}, each.variant),
      `: ${each.reasons.join("; ")}`);
    return make("div", { class: "reasons", "data-of-variants": "" }, make("h3", {}, title),
      make("ul", {}, others.map(reason)));
  }

  // The inputs; a run that only searched has none.

  function showLimits(limits) {
    for (const input of form.querySelectorAll("input")) {
      if (limitOf(input.value) !== limits[input.name]) input.value = limits[input.name] ?? "";
    }
    form.querySelector("button").disabled = isAsked(limits);
  }

  if (form) {
    form.addEventListener("input", () => {
      const given = [...form.querySelectorAll("input")].map((input) => [input.name, limitOf(input.value)]);
      choose({ limits: Object.fromEntries(given) });
    });
    form.addEventListener("reset", (event) => { event.preventDefault(); choose({ limits: run.limits }); });
    form.addEventListener("submit", (event) => event.preventDefault());
    document.addEventListener("decided", ({ detail: { decision, limits } }) => {
      const isFree = Object.values(limits).every((limit) => limit === null);
      showLimits(limits);
      showAnswer(decision, isFree);
      showLoads(decision, isFree);
    });
  }
}
