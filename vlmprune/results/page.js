// A click on a heading sorts its table by that column: words from A to Z, numbers from the largest. A second click sorts
// it the other way round. Unknown values stay last.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement, table = heading.closest("table"), body = table.tBodies[0];
    const key = row => row.cells[heading.cellIndex].dataset.sort;
    const words = [...body.rows].some(row => isNaN(key(row)));
    const last = heading.getAttribute("aria-sort"), up = last ? last === "descending" : words;
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const compare = (a, b) => isNaN(a) || isNaN(b) ? a.localeCompare(b, "en", { numeric: true }) : a - b;
    const rows = [...body.rows].sort((one, two) => {
      const a = key(one), b = key(two);
      if (a === "" || b === "") return (a === "") - (b === "");
      return up ? compare(a, b) : compare(b, a);
    });
    body.append(...rows);
  });
}
