"use strict";
// Sorts tables by a click on a column's title, and opens all scores of a case in a row of their own. Without it both stay readable.

const MISSING = "\u2013";
const COLLATOR = new Intl.Collator(undefined, { numeric: true });

function sortValue(row, column) {
  const text = row.cells[column]?.textContent.trim() ?? "";  // rows may have cells that span columns
  const number = Number(text.replaceAll(",", "").replace("\u2212", "-").replace("< ", "").replace(/%$/, ""));
  return text === "" || text === MISSING ? null : Number.isNaN(number) ? text : number;
}

function compareValues(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return COLLATOR.compare(String(a), String(b));
}

function sortRows(body, column, direction) {
  closeDetailRows(body);
  const rows = Array.from(body.rows, (row) => ({ row, value: sortValue(row, column) }));
  rows.sort((a, b) => (a.value === null) - (b.value === null) || (a.value === null ? 0 : direction * compareValues(a.value, b.value)));
  body.append(...rows.map(({ row }) => row));
}

function makeSortable(table) {
  const titles = Array.from(table.tHead.rows[0].cells);
  titles.forEach((title, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...title.childNodes);
    button.addEventListener("click", () => {
      const direction = title.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      titles.forEach((other) => other.removeAttribute("aria-sort"));
      title.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
      sortRows(table.tBodies[0], column, direction);
    });
    title.append(button);
  });
}

// Lines and tabs of the text become rows and cells; the first line is the head.
function tableOfText(text) {
  const table = document.createElement("table");
  text.trim().split("\n").forEach((line, number) => {
    const row = (number === 0 ? table.createTHead() : (table.tBodies[0] ?? table.createTBody())).insertRow();
    line.split("\t").forEach((word, column) => {
      const cell = document.createElement(number === 0 || column === 0 ? "th" : "td");
      const name = document.createElement("bdi");
      name.textContent = word;
      cell.append(name);
      row.append(cell);
    });
  });
  return table;
}

function closeDetailRows(body) {
  body.querySelectorAll("details[open]").forEach((details) => { details.open = false; });
  body.querySelectorAll("tr.detail").forEach((row) => row.remove());
}

function showDetails(details) {
  const row = details.closest("tr");
  if (row.nextElementSibling?.className === "detail") row.nextElementSibling.remove();
  if (!details.open) return;
  const detail = document.createElement("tr");
  detail.className = "detail";
  const cell = detail.insertCell();
  cell.colSpan = row.cells.length;
  cell.append(tableOfText(details.querySelector("pre").textContent));
  row.after(detail);
}

document.documentElement.classList.add("scripted");
document.querySelectorAll("table.sortable").forEach(makeSortable);
document.addEventListener("toggle", (event) => {
  if (event.target.matches("table.cases details")) showDetails(event.target);
}, true);
