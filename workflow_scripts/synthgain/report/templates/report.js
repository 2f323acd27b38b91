"use strict";
// Folded parts are opened for paper and folded again afterwards; tables of many pages stay in their CSV.
const mostRows = 40;
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")]
    .filter((part) => part.querySelectorAll("tr").length <= mostRows);
  folded.forEach((part) => { part.open = true; });
});
addEventListener("afterprint", () => folded.forEach((part) => { part.open = false; }));
