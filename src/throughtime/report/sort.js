// A button in every heading sorts the table by that column: numbers as numbers, dashes last.
for (const table of document.querySelectorAll("table:not(.source)")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  if (body.rows.length < 2) continue;
  const number = (text) =>
    /^[+\-−]?[\d.]/.test(text) ? parseFloat(text.replace("−", "-").replaceAll(",", "")) : NaN;
  const sort = (column, down) => {
    const rows = [...body.rows].map((row) => [row.cells[column].textContent.trim(), row]);
    const numeric = rows.some(([text]) => !isNaN(number(text)));
    const missing = numeric ? (text) => isNaN(number(text)) : (text) => text === "" || text === "–";
    const compare = numeric
      ? (a, b) => number(a) - number(b)
      : (a, b) => a.localeCompare(b, undefined, { numeric: true });
    rows.sort(([a], [b]) => missing(a) - missing(b) || (down ? compare(b, a) : compare(a, b)));
    body.append(...rows.map(([, row]) => row));
  };
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const down = heading.ariaSort === "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(column, down);
    });
  });
}
