"use strict";
// The filter by text, and links that open their targets. All else is HTML and CSS.
const cases = [...document.querySelectorAll(".case")].map(element => ({
  element,
  text: [...element.querySelectorAll(":scope > summary, .finding > h4, .stopped > pre")]
    .map(part => part.textContent).join(" ").toLowerCase(),
}));
const groups = [...document.querySelectorAll(".group")].map(element => ({ element, open: element.open }));
const input = document.getElementById("filter");
const shown = document.getElementById("shown");

function filter() {
  const words = input.value.toLowerCase().split(/\s+/).filter(word => word);
  for (const { element, text } of cases) element.hidden = !words.every(word => text.includes(word));
  let count = 0;
  for (const { element, open } of groups) {
    const matches = element.querySelectorAll(".case:not([hidden])").length;
    if (words.length) element.open = matches > 0;
    else if (element.dataset.filtered) element.open = open;
    element.hidden = matches === 0;
    if (words.length) element.dataset.filtered = "yes";
    else delete element.dataset.filtered;
    if (getComputedStyle(element).display !== "none") count += matches;
  }
  shown.textContent = `${count} of ${cases.length} cases`;
}

function open() {
  let id;
  try {
    id = decodeURIComponent(location.hash.slice(1));
  } catch {
    return;
  }
  const target = id && document.getElementById(id);
  if (!target) return;
  if (target.closest(".case[hidden]")) {
    input.value = "";
    filter();
  }
  const group = target.closest(".group");
  const box = group && document.getElementById(`show-${group.id}`);
  if (box && !box.checked) {
    box.checked = true;
    filter();
  }
  for (let up = target; up; up = up.parentElement) if (up.localName === "details") up.open = true;
  target.scrollIntoView();
  const focus = target.querySelector(":scope > summary");
  if (focus) focus.focus({ preventScroll: true });
}

input.closest("[hidden]").hidden = false;
input.addEventListener("input", filter);
input.form.addEventListener("change", filter);
input.form.addEventListener("submit", event => event.preventDefault());
addEventListener("hashchange", open);
// A link to the current fragment does not change it.
addEventListener("click", event => {
  const link = event.target.closest("a[href^='#']");
  if (link && link.getAttribute("href") === location.hash) open();
});
// Opening a case by hand puts its link into the address bar, so that it can be shared.
addEventListener("toggle", event => {
  if (event.target.matches(".case, .deviation") && event.target.open) history.replaceState(null, "", `#${event.target.id}`);
}, true);
addEventListener("keydown", event => {
  if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && event.target.localName !== "input") {
    event.preventDefault();
    input.focus();
  } else if (event.key === "Escape" && event.target === input) {
    input.value = "";
    filter();
  }
});
filter();
open();
