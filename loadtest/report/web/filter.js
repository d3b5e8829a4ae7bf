// Filtering: a click on a name or a point, or the menu, chooses a variant or lets it go; the chosen ones are shown.
const menu = document.querySelector("#menu");
const filtered = document.querySelector("#filtered");
const several = new Option("", "several");
several.hidden = true;
menu.append(several);

function pick(variant) {
  if (variant === undefined) return;
  const picked = new Set(variant === "" ? [] : chosen.picked);
  if (variant !== "" && !picked.delete(variant)) picked.add(variant);
  choose({ picked });
}

document.addEventListener("decided", ({ detail: { picked } }) => {
  const names = [...picked];
  for (const element of document.querySelectorAll("[data-variant]")) {
    element.hidden = picked.size > 0 && !picked.has(element.dataset.variant);
  }
  for (const card of document.querySelectorAll("[data-of-variants]")) {
    card.hidden = picked.size > 0 && !card.querySelector("[data-variant]:not([hidden])");
  }
  for (const button of document.querySelectorAll(".name")) {
    button.setAttribute("aria-pressed", picked.has(button.dataset.pick));
  }
  several.text = `${picked.size} variants`;
  menu.value = names.length > 1 ? "several" : (names[0] ?? "");
  filtered.hidden = picked.size === 0;
  filtered.querySelector("b").textContent = names.length > 3 ? several.text : names.join(", ");
});

menu.addEventListener("change", () => pick(menu.value));
document.addEventListener("click", (event) => pick(event.target.closest("[data-pick]")?.dataset.pick));
document.addEventListener("keydown", (event) => { if (event.key === "Escape") pick(""); });
