// What the pages of all worlds share. `data.policies` has a row for each policy: its name and metrics.

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#80614b",
                 "#333333", "#a5aa00"];
const DASHES = ["solid", "dash", "dot"];
const LAYOUT = { font: { family: "system-ui, sans-serif", size: 13, color: "#1f2430" }, paper_bgcolor: "#fff",
                 plot_bgcolor: "#fff", hovermode: "closest" };
const AXIS = { gridcolor: "#e8eaee", zerolinecolor: "#c8cdd6", linecolor: "#c8cdd6", showline: true };
const OPTIONS = { responsive: true, displaylogo: false };
const byId = (id) => document.getElementById(id);

function style(rank) {
  const dash = DASHES[Math.floor(rank / COLOURS.length) % DASHES.length];
  return { color: COLOURS[rank % COLOURS.length], dash, width: 2 };
}

function number(value) {
  if (value === null) return "-";
  if (Number.isInteger(value) || Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  const decimals = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(decimals, 3));
}

function estimates(metric, scale, axis, unit) {
  const rows = data.policies.slice().reverse();
  const values = rows.map((row) => row.metrics[metric]);
  const width = (end) => values.map((value) => (value[end] === null ? 0 : Math.abs(value[end] - value.mean) * scale));
  return {
    type: "scatter", mode: "markers", showlegend: false, xaxis: `x${axis}`, yaxis: `y${axis}`,
    x: values.map((value) => (value.mean === null ? null : value.mean * scale)), y: rows.map((row) => row.policy),
    marker: { size: 8, color: "#0072b2" },
    error_x: { type: "data", symmetric: false, array: width("high"), arrayminus: width("low"), color: "#0072b2",
               thickness: 1.5, width: 4 },
    hovertemplate: `%{y}: %{x:.3g} ${unit}<extra></extra>`,
  };
}

function drawTable(groups) {
  const table = document.createElement("table");
  const frame = document.createElement("div");
  frame.className = "scroll";
  frame.append(table);
  byId("tables").append(frame);
  const names = groups.map((group) =>
    `<th class="group" colspan="${group.columns.length}">${group.name}</th>`).join("");
  const columns = groups.flatMap((group) =>
    group.columns.map((column, i) => ({ ...column, css: i === 0 ? "first" : "" })));
  const heads = columns.map((column, i) =>
    `<th data-column="${i}" class="${column.css}">${column.label}</th>`).join("");
  table.innerHTML = `<thead><tr><th></th>${names}</tr><tr><th>policy</th>${heads}</tr></thead><tbody></tbody>`;
  const cell = (row, column) => {
    const { mean, low, high } = row.metrics[column.metric];
    const range = column.interval && low !== null
      ? ` <small>[${number(low * column.scale)}, ${number(high * column.scale)}]</small>` : "";
    return `<td class="${column.css}">${number(mean === null ? null : mean * column.scale)}${range}</td>`;
  };
  const fill = (rows) => {
    table.tBodies[0].innerHTML = rows.map((row) =>
      `<tr><td>${row.policy}</td>${columns.map((column) => cell(row, column)).join("")}</tr>`).join("");
  };
  let sorted = null;
  table.querySelectorAll("[data-column]").forEach((head) => head.addEventListener("click", () => {
    const value = (row) => row.metrics[columns[head.dataset.column].metric].mean ?? Infinity;
    const direction = sorted === head ? -1 : 1;
    table.querySelectorAll("th").forEach((other) => other.classList.remove("sorted"));
    head.classList.add("sorted");
    sorted = direction === 1 ? head : null;
    fill(data.policies.slice().sort((a, b) => direction * (value(a) - value(b))));
  }));
  fill(data.policies);
}
