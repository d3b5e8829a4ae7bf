// The decision, as loadtest/decision makes it: constraints.judge, versus.Versus and decision.decide under other limits.
// All that no limit changes, texts included, comes from Python (loadtest/report/live.py). A test compares the answers.
const { decide, format, heading, shown, span } = (() => {
  const { rules, verdicts, words } = run;
  const { compared, headings, missed, values } = words;

  function decide(run, asked) {
    const limits = Object.fromEntries(Object.keys(headings).map((name) => [name, asked[name] ?? null]));
    const facts = Object.fromEntries(run.variants.map((variant, number) => [variant.name, { ...variant, number }]));
    const cells = run.cells.map((cell) => ({ ...cell, facts: facts[cell.variant] }));
    const under = (load) => cells.filter((cell) => cell.load === load.key);
    const loads = run.loads.map((load) => decideLoad(run, limits, load, under(load)));
    return { loads, shown: deciding(run, limits, loads)?.load ?? null };
  }

  function deciding(run, limits, loads) {
    const won = loads.filter((each) => each.winner !== null);
    const keys = run.loads.map((load) => [load.scenario, load.level, load.key]).sort(inOrder).map(([, , key]) => key);
    if (limits.rate !== null) {
      const asked = run.loads.find((load) => load.scenario === "server" && load.level === limits.rate)?.key;
      const carried = [asked, ...keys.filter((key) => won.some((each) => each.load === key))].find((key) => key);
      if (carried) return loads.find((each) => each.load === carried);
    }
    if (won.length) return first(won, (each) => costs(each.standings[0].cell, highestThroughput(limits)));
    return first(loads, ({ standings: [best] }) => (best?.place === "nearest" ? distance(best) : [0, 0, 0]));
  }

  function decideLoad(run, limits, load, cells) {
    if (Object.values(limits).every((limit) => limit === null)) {
      const cell = (variant) => cells.find((each) => each.variant === variant);
      return answer(load, load.frontier.map(([variant, reason]) => standing(cell(variant), "frontier", [reason])));
    }
    const versus = comparing(run, limits, load);
    const judged = sorted(cells, versus.cost).map((cell) => judgedCell(cell, limits, load));
    const able = judged.filter((each) => each.place === "close");
    const unable = sorted(judged.filter((each) => each.place === "ruled out"), distance);
    if (!able.length) unable[0].place = "nearest";
    const standings = [...placed(able, versus), ...unable];
    const stops = run.stops.filter((stop) => stop.load === load.key);
    for (const each of standings) addStop(each, stops.find((stop) => stop.variant === each.variant));
    return { ...answer(load, standings), byThroughput: versus.byThroughput };
  }

  function standing(cell, place, reasons, judgements = []) {
    return { variant: cell.variant, place, judgements, reasons, cell };
  }

  function answer(load, standings) {
    const at = (place) => standings.find((each) => each.place === place)?.variant ?? null;
    return { load: load.key, winner: at("winner"), runner_up: at("runner-up"), standings };
  }

  function judgedCell(cell, limits, load) {
    const judgements = judge(cell, limits, load);
    const broken = judgements.filter((each) => !admits(each)).map((each) => each.text);
    if (cell.failures && limits.p99 === null) broken.push(cell.failed);
    const unsure = judgements.filter((each) => each.state !== "met").map((each) => each.text);
    return standing(cell, broken.length ? "ruled out" : "close", broken.length ? broken : unsure, judgements);
  }

  function placed(able, versus) {
    if (!able.length) return [];
    const best = versus.winner(able.map((each) => each.cell));
    const winner = able.find((each) => each.cell === best);
    const others = able.filter((each) => each !== winner);
    winner.place = "winner";
    others.forEach((each, number) => {
      each.slower = versus.beats(best, each.cell);
      each.place = number === 0 ? "runner-up" : each.slower ? "beaten" : "close";
      each.reasons.unshift(versus.text(each.cell, best));
    });
    return [winner, ...others];
  }

  function addStop(standing, stop) {
    if (!stop) return;
    const bare = (text) => text.replace(/[0-9][0-9.,]*/g, "");
    const said = new Set(standing.reasons.map(bare));
    const repeated = stop.reason.split("; ").every((text) => said.has(bare(text)));
    standing.stopped = format(words.stopped, stop.round) + (repeated ? "" : `: ${stop.reason}`);
    standing.reasons.push(standing.stopped);
  }

  function distance({ judgements, cell }) {
    const misses = judgements.filter((each) => !admits(each));
    const broken = misses.filter((each) => each.state === "broken").length + (cell.failures ? 1 : 0);
    return [broken, misses.length - broken, misses.reduce((sum, each) => sum + excess(each), 0)];
  }

  // Constraints: `limits` has null where there is none.

  function judge(cell, limits, load) {
    const known = { ...cell.evidence, ...cell.facts.evidence };
    const names = Object.keys(limits).filter((name) => limits[name] !== null);
    return names.map((name) => (name === "rate" ? judgeRate : judgeMost)(name, cell, known[name], limits[name], load));
  }

  function judgeMost(name, cell, known, limit) {
    const most = limit + rules.rounding;
    const met = known.high !== null && known.high <= most, broken = known.low !== null && known.low > most;
    const state = met ? "met" : broken ? "broken" : "unknown";
    if (state === "unknown" && known.unknown) {
      return { constraint: name, state, value: null, interval: [null, null], limit, text: known.unknown };
    }
    const { value, interval } = known, miss = (value ?? interval[0] ?? 0) - limit;
    const over = miss > rules.rounding ? format(missed[name], miss, limit) : "";
    const doubt = name === "p99" && cell.generator_limit && over ? words.limited : words.not_sure;
    return { constraint: name, state, value, interval, limit, text: joined(known.text, state, over, doubt) };
  }

  function judgeRate(name, cell, known, limit, load) {
    const { rps, asked_rps: asked } = cell;
    let state = cell.generator_limit ? "unknown" : "broken", doubt = words.limited;
    let miss = format(missed.rate, limit - rps, limit);
    if (asked === null) {
      if (rps >= limit) state = "met";
    } else if (load.level < limit) {
      [state, doubt] = ["unknown", words.no_more];
    } else {
      if (rps >= rules.kept_up * asked) state = "met";
      miss = format(words.fewer, asked - rps);
    }
    const text = joined(known.text, state, miss, doubt);
    return { constraint: name, state, value: rps, interval: [null, null], limit, text };
  }

  function joined(said, state, miss, doubt) {
    return [said, state === "met" ? "" : miss, state === "unknown" ? doubt : ""].filter((part) => part).join(", ");
  }

  function admits(judgement) {
    const { state, value } = judgement;
    return state === "met" || (state === "unknown" && value !== null && excess(judgement) <= rules.rounding);
  }

  function excess({ constraint, value, interval: [low], limit }) {
    const known = value ?? low;
    if (known === null) return Infinity;
    return (constraint === "rate" ? limit - known : known - limit) / (limit || 1);
  }

  // Comparisons of the variants under one load, as Versus has them.

  const least = (value) => value ?? Infinity;
  const size = (cell) => least(cell.facts.artifact_bytes);
  const isMoreAccurate = (one, other) => one.facts.more_accurate_than.includes(other.facts.number);

  function costs(cell, byThroughput) {
    return byThroughput ? [-cell.rps, least(cell.p99)] : [least(cell.p99), least(cell.p50)];
  }

  const highestThroughput = (limits) => limits.rate === null && limits.p99 !== null;

  function comparing(run, limits, load) {
    const byThroughput = highestThroughput(limits) && load.scenario !== "server";
    const figures = byThroughput ? ["throughput"] : ["p99", "p50"];
    const clear = verdicts.indexOf("clear");

    function between(one, other) {
      const numbers = [one.facts.number, other.facts.number];
      const isPair = ([faster, slower]) => faster !== slower && numbers.includes(faster) && numbers.includes(slower);
      const found = figures.map((figure) => [figure, run.comparisons[load.key][figure].find(isPair)]);
      const known = found.filter(([, each]) => each).map(([figure, each]) => ({ figure, each }));
      return known.find(({ each }) => each[5] === clear) ?? known[0];
    }

    function beats(one, other) {
      const found = between(one, other);
      return Boolean(found && found.each[5] === clear && found.each[0] === one.facts.number);
    }

    function winner(able) {
      const known = able.filter((cell) => cell === able[0] || between(cell, able[0]));
      const unbeaten = known.filter((cell) => !able.some((other) => beats(other, cell)));
      const best = unbeaten.filter((cell) => !unbeaten.some((other) => isMoreAccurate(other, cell)));
      return first(best.length ? best : able.slice(0, 1), (cell) => [size(cell), Number(cell.variant.includes(" @ "))]);
    }

    function text(cell, winner) {
      const found = between(cell, winner);
      if (!found) return words.uncompared;
      const [, slower, ratio, low, high, verdict] = found.each;
      const [times, ...ends] = slower === cell.facts.number ? [ratio, low, high] : [1 / ratio, 1 / high, 1 / low];
      const said = `${format(compared[found.figure], times)}${span(...ends)}, ${verdicts[verdict]}`;
      if (beats(winner, cell)) return cell.generator_limit ? `${said}, ${words.limited}` : said;
      if (isMoreAccurate(winner, cell)) return `${said}, ${words.less_accurate}`;
      return size(cell) > size(winner) ? `${said}, ${words.larger}` : said;
    }

    return { byThroughput, cost: (cell) => costs(cell, byThroughput), beats, winner, text };
  }

  // Sorting by lists, as Python compares them.

  function inOrder(one, other) {
    const differs = one.findIndex((value, i) => value !== other[i]);
    return differs < 0 ? 0 : one[differs] < other[differs] ? -1 : 1;
  }

  const sorted = (all, cost) => [...all].sort((one, other) => inOrder(cost(one), cost(other)));
  const first = (all, cost) => sorted(all, cost)[0];

  // Texts: Python's str.format for {}, {:g}, and {:.2f}, {:,.0f}, {:.2%} with any number of digits.

  function format(template, ...given) {
    return template.replace(/\{(?::(g)|:(,?)\.(\d)([f%]))?\}/g, (_, general, comma, digits, kind) => {
      const value = given.shift();
      if (general) return general6(value);
      if (digits === undefined) return value;
      const text = fixed(kind === "%" ? 100 * value : value, Number(digits)) + (kind === "%" ? "%" : "");
      return comma ? text.replace(/\B(?=(\d{3})+(?!\d))/g, ",") : text;
    });
  }

  function fixed(value, digits) {
    const scaled = Math.abs(value) * 10 ** digits, whole = Math.floor(scaled);
    const isTie = scaled - whole === 0.5 && Number.isInteger(value * 2 ** (digits + 1));  // goes to the even neighbour
    return (isTie ? (Math.sign(value) * (whole + (whole % 2))) / 10 ** digits : value).toFixed(digits);
  }

  function general6(value) {
    if (value === 0) return "0";
    const [digits, exponent] = value.toExponential(5).split("e").map(Number);
    if (exponent >= -4 && exponent < 6) return String(Number(fixed(value, 5 - exponent)));
    return `${digits}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  }

  function span(low, high) {
    if (low === null || high === null) {
      return low === high ? "" : low === null ? format(words.at_most, high) : format(words.at_least, low);
    }
    return format(words.between, low, high);
  }

  const heading = ({ constraint, limit }) => format(headings[constraint], limit);

  function shown({ constraint, value, interval }) {
    return (value === null ? "n/a" : format(values[constraint], value)) + span(...interval);
  }

  return { decide, format, heading, shown, span };
})();
