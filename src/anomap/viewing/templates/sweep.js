// Sorts the table by the column whose heading is pressed; means over several lines stay below it.
(() => {
  const body = document.querySelector("#table tbody");
  if (!body) return;
  const value = (row, column) => {
    const cell = row.cells[column];
    const number = cell.dataset.number;
    return number === undefined ? cell.firstElementChild.textContent : number === "" ? null : Number(number);
  };
  /** Numbers before words, and what is missing last, whichever way. */
  const compare = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return sign * a.localeCompare(b, "en", { numeric: true });
  };
  document.querySelectorAll("#table th button").forEach((button, column) => {
    button.addEventListener("click", () => {
      const heading = button.parentElement;
      const before = heading.getAttribute("aria-sort");
      const descending = before ? before === "ascending" : heading.classList.contains("number");
      for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const rows = Array.from(body.rows);
      rows.sort((a, b) => compare(value(a, column), value(b, column), descending ? -1 : 1));
      body.replaceChildren(...rows);
    });
  });
})();
