// Sorting: a click on a heading sorts by it, a second click turns the order; what was not measured stays last.
{
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
}
