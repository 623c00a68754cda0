// Elements from values. Texts become text nodes and nothing else: whatever a module is called, it is no markup.

export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("--")) element.style.setProperty(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false && child !== "")
    .map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

// Makes `old` equal to `next` with as few changes as possible: focus, selection and what is open stay.
export function morph(old, next) {
  if (old.isEqualNode(next)) return;
  if (old.nodeType !== next.nodeType || old.nodeName !== next.nodeName || keyOf(old) !== keyOf(next)) {
    old.replaceWith(next);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    old.nodeValue = next.nodeValue;
    return;
  }
  morphAttributes(old, next);
  morphChildren(old, [...next.childNodes]);
}

export function morphChildren(parent, wanted) {
  const keyed = new Map([...parent.childNodes].filter((node) => keyOf(node)).map((node) => [keyOf(node), node]));
  let place = parent.firstChild;
  for (const next of wanted) {
    const key = keyOf(next);
    const known = key ? keyed.get(key) : place && !keyOf(place) ? place : null;
    if (!known) {
      parent.insertBefore(next, place);
      continue;
    }
    if (known === place) place = place.nextSibling;
    else parent.insertBefore(known, place);
    morph(known, next);
  }
  while (place) {
    const rest = place.nextSibling;
    place.remove();
    place = rest;
  }
}

function morphAttributes(old, next) {
  const keep = old.nodeName === "DETAILS" ? ["open", "style"] : ["style"];
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && !keep.includes(name)) old.removeAttribute(name);
  }
  for (const { name, value } of [...next.attributes]) {
    if (!keep.includes(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  // By the object, not the attribute, which the page's policy forbids.
  if (old.style.cssText !== next.style.cssText) old.style.cssText = next.style.cssText;
}

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null;
}
