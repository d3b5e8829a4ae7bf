// The menu of sections, for a phone: the page scrolls there, and its address keeps what the reader chose.
document.querySelector("#sections").addEventListener("change", ({ target }) => {
  document.getElementById(target.value).scrollIntoView();
  target.value = "";
});
