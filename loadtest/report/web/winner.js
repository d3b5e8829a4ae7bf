// The winner: its rows in tables are marked, anew whenever the reader decides otherwise. A row without a load is of all.
document.addEventListener("decided", ({ detail: { decision } }) => {
  const winners = Object.fromEntries(decision.loads.map(({ load, winner }) => [load, winner]));
  for (const row of document.querySelectorAll("tr[data-load]")) {
    const { load, variant } = row.dataset;
    row.toggleAttribute("data-wins", winners[load || decision.shown] === variant);
  }
});
