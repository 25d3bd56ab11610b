// A landmark is a place to jump to: the headings below a heading, and the buttons beside a piece of code, are none.
function leaveOutAll() {
  for (const nav of document.querySelectorAll(".md-code__nav, .md-nav .md-nav:not([aria-labelledby])")) {
    nav.removeAttribute("aria-label");
    nav.setAttribute("role", "presentation");
  }
}

// What scrolls sideways can be reached, and scrolled, by the keyboard.
function letKeysScroll() {
  let tables = 0;
  for (const region of document.querySelectorAll("pre > code, .md-typeset__scrollwrap")) {
    const isTable = region.matches("div");
    tables += isTable;
    if (region.scrollWidth > region.clientWidth) {
      region.tabIndex = 0;
      if (isTable) {
        region.setAttribute("role", "region");
        region.setAttribute("aria-label", `Table ${tables}`);
      }
    } else {
      for (const name of ["tabindex", "role", "aria-label"]) region.removeAttribute(name);
    }
  }
}

document.addEventListener("DOMContentLoaded", () => {
  leaveOutAll();
  letKeysScroll();
  new MutationObserver(leaveOutAll).observe(document.body, { childList: true, subtree: true }); // the theme adds some later
  window.addEventListener("resize", letKeysScroll);
});
window.addEventListener("load", letKeysScroll);
