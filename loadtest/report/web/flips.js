// Images of flips: each is in the page once, and drawn when the variant's list is opened.
const images = JSON.parse(document.querySelector("#images").textContent);
for (const list of document.querySelectorAll("details.flips")) {
  list.addEventListener("toggle", () => {
    for (const image of list.querySelectorAll("img:not([src])")) image.src = images[image.dataset.image];
  });
}
