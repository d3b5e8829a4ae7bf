// Capacity: how many servers a rate takes of each variant and what a million answers cost, by what was measured.
{
  const data = JSON.parse(document.querySelector("#capacity-data").textContent);
  const inputs = document.querySelector("#capacity-inputs");
  const body = document.querySelector("#capacity-table tbody");
  const number = (name) => (inputs[name]?.value > 0 ? Number(inputs[name].value) : null);
  const asked = number("rate");
  let limit = data.p99;
  let typed = false;

  function highest({ rates }) {
    const fits = ({ at, p99 }) => (at === data.searched ? p99 === limit : limit === null || (p99 !== null && p99 <= limit));
    return rates.find(fits) ?? null;
  }

  // What the rate takes of one variant; null where that is not known.
  function needs(variant) {
    const best = highest(variant);
    const [rate, price, cores] = [number("rate"), number("price"), data.cores ?? number("cores")];
    const replicas = best && rate !== null ? Math.ceil(rate / best.rate) : null;
    const vcpus = replicas === null || cores === null ? null : replicas * cores;
    return {
      rate: best && best.rate,
      at: best && best.at + (best.p99 === null ? "" : `, p99 ${best.p99.toFixed(2)} ms`),
      replicas,
      vcpus,
      memory: replicas === null || variant.memory_mb === null ? null : replicas * variant.memory_mb,
      cost: vcpus === null || price === null ? null : ((vcpus * price) / (rate * 3600)) * 1e6,
      atLeast: best && best.at_least,
    };
  }

  function why(field, { rate, vcpus, replicas }) {
    if (rate === null) return limit === null ? "no answer was measured" : `no measurement has a p99 within ${limit} ms`;
    if (replicas === null) return "no rate is given";
    if (field === "memory") return "no manifest says how much memory it takes";
    return vcpus === null ? "the vCPUs of the server's machine are not given" : "no price is given";
  }

  function shown(field, needed) {
    const value = needed[field];
    if (value === null) {
      const unknown = document.createElement("abbr");
      unknown.title = why(field, needed);
      unknown.textContent = "n/a";
      return unknown;
    }
    if (field === "at") return value;
    const fraction = { memory: 1, rate: value < 10 ? 2 : 0 }[field] ?? 0;
    const digits = field === "cost" ? { maximumSignificantDigits: 3 } : { maximumFractionDigits: fraction };
    const bound = needed.atLeast ? (field === "rate" ? "at least " : "at most ") : "";
    return bound + value.toLocaleString("en", digits);
  }

  // Shows what each variant needs, the cheapest first.
  function show() {
    const needed = new Map(data.variants.map((variant) => [variant.variant, needs(variant)]));
    const order = ({ dataset }) => needed.get(dataset.variant).replicas ?? Infinity;
    for (const row of body.rows) {
      for (const cell of row.querySelectorAll("[data-is]")) {
        cell.replaceChildren(shown(cell.dataset.is, needed.get(row.dataset.variant)));
      }
    }
    const rate = ({ dataset }) => needed.get(dataset.variant).rate ?? 0;
    body.append(...[...body.rows].sort((a, b) => (order(a) === order(b) ? rate(b) - rate(a) : order(a) - order(b))));
  }

  inputs.addEventListener("input", ({ target }) => {
    typed ||= target.name === "rate";
    show();
  });
  inputs.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("decided", ({ detail: { limits } }) => {
    limit = limits.p99;
    if (!typed) inputs.rate.value = limits.rate ?? asked;
    show();
  });
  show();
}
