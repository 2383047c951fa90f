// Elements by code. Text only ever becomes text nodes: what a document or a model says is never read as HTML.
export type Child = Node | string | false | undefined | readonly Child[];
type Value = string | number | boolean | undefined | ((event: Event) => void);

/** Make an element: `on…` are listeners, true and false set and leave out attributes. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, Value>> = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  return fill(element, ...children);
}

/** Replace what an element holds. */
export function fill<E extends Element>(element: E, ...children: readonly Child[]): E {
  element.replaceChildren(...flat(children));
  return element;
}

/** Say something to screen readers, politely. */
export function announce(text: string): void {
  const region = document.getElementById("said");
  if (region && text) region.append(h("p", {}, text));
}

/** Forget what was said, so that nobody finds it twice on the page. */
export function hush(): void {
  document.getElementById("said")?.replaceChildren();
}

function flat(children: readonly Child[]): (Node | string)[] {
  return children.flatMap((child) => {
    if (child === false || child === undefined) return [];
    return Array.isArray(child) ? flat(child as readonly Child[]) : [child as Node | string];
  });
}

const SVG = "http://www.w3.org/2000/svg";

/** Make a line icon on a grid of 24. */
export function icon(path: string): SVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("icon");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}
