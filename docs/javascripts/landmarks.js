// A landmark is a place to jump to: the headings below a heading, and the buttons beside a piece of code, are none.
function leaveOutAll() {
  for (const nav of document.querySelectorAll(".md-code__nav, .md-nav .md-nav:not([aria-labelledby])")) {
    nav.removeAttribute("aria-label");
    nav.setAttribute("role", "presentation");
  }
}

document.addEventListener("DOMContentLoaded", () => {
  leaveOutAll();
  new MutationObserver(leaveOutAll).observe(document.body, { childList: true, subtree: true }); // the theme adds some later
});
