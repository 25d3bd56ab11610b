// A landmark is a place to jump to: lists within the navigation, and the button beside a piece of code, are none.
function isPlain(nav) {
  return nav.matches(".md-code__nav, .md-nav .md-nav");
}

function leaveOut(nav) {
  for (const name of ["aria-label", "aria-labelledby", "aria-expanded"]) nav.removeAttribute(name);
  nav.setAttribute("role", "presentation");
}

function leaveOutAll() {
  for (const nav of document.querySelectorAll("nav:not([role])")) if (isPlain(nav)) leaveOut(nav);
}

document.addEventListener("DOMContentLoaded", () => {
  leaveOutAll();
  new MutationObserver(leaveOutAll).observe(document.body, { childList: true, subtree: true }); // the theme adds some later
});
