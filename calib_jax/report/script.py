"""The script of the report: a table sorts by the column whose head is clicked.

It wraps each column head in a button (so the keyboard reaches it) and sets `aria-sort`. Without
scripts the tables stay as they are written.
"""

# The first click puts the best first: heads carry an arrow to the better side. Groups sort within
# themselves, missing numbers come last either way.
SORTING = """
"use strict";
const inWords = new Intl.Collator(undefined, { numeric: true });
const value = (row, column) => {
  const cell = row.cells[column], text = cell.dataset.sort ?? cell.textContent.trim();
  const number = column ? text.match(/^[✓✗ ]*([+-]?\\d+(\\.\\d+)?(e[+-]\\d+)?)/) : null;
  return number ? Number(number[1]) : text;
};
const compare = (a, b, sign) => {
  const missing = (a === "–") - (b === "–");
  if (missing) return missing;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return sign * (typeof a === "number" ? a - b : inWords.compare(a, b));
};
const sort = (table, head) => {
  const column = head.cellIndex, body = table.tBodies[0], groups = [[]];
  const falls = head.ariaSort ? head.ariaSort === "ascending" : head.textContent.includes("↑");
  for (const row of body.rows) {
    if (row.className === "group") groups.push([row]); else groups.at(-1).push(row);
  }
  for (const rows of groups) {
    const title = rows[0]?.className === "group" ? rows.shift() : null;
    const keyed = rows.map(row => [value(row, column), row]);
    keyed.sort((a, b) => compare(a[0], b[0], falls ? -1 : 1));
    body.append(...(title ? [title] : []), ...keyed.map(pair => pair[1]));
  }
  for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
  head.ariaSort = falls ? "descending" : "ascending";
};
for (const head of document.querySelectorAll("thead th")) {
  const button = document.createElement("button");
  button.append(...head.childNodes);
  button.addEventListener("click", () => sort(head.closest("table"), head));
  head.append(button);
}
""".strip()
