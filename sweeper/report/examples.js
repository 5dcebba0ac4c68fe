"use strict";
// Filters the example browser; without it every example is there, in its closed group.
const box = document.getElementById("example-filter");
const field = document.getElementById("example-words");
const count = document.getElementById("example-count");
const groups = Array.from(document.querySelectorAll("details.examples"));

function filter() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const group of groups) {
    const title = group.querySelector("summary").textContent.toLowerCase();
    let shown = 0;
    for (const example of group.querySelectorAll("li")) {
      const text = title + " " + example.textContent.toLowerCase();
      const fits = words.every((word) => text.includes(word));
      example.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    group.hidden = shown === 0;
    group.open = words.length > 0 && shown > 0;
    found += shown;
  }
  count.textContent = words.length > 0 ? found + " found" : "";
}

box.hidden = false;
field.addEventListener("input", filter);
