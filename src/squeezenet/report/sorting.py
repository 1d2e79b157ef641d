"""Tables that sort by a click on a column's title, with a few lines of script.

Without the script the tables are as readable, in the order of the page.
"""

from __future__ import annotations

SORTABLE = "sortable"
"""The kind of a table (see ``markup.table``) that sorts."""
SORT_SCRIPT = """
for (const table of document.querySelectorAll(".sortable table")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.children[column].textContent.replaceAll(",", "");
      const compare = (a, b) => {
        const [x, y] = [parseFloat(value(a)), parseFloat(value(b))];
        if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
        return value(a).localeCompare(value(b), "en", { numeric: true });
      };
      const body = table.tBodies[0];
      const rows = [...body.rows].sort(compare);
      body.append(...(down ? rows.reverse() : rows));
    });
  });
}
""".strip()
