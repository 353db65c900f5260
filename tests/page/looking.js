// What the tests ask a page: `(name) => answer`, one function for each question.
(name) => {
  const rgba = (text) => {
    const scale = text.startsWith("color(") ? 255 : 1;
    const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
    return { r: r * scale, g: g * scale, b: b * scale, a };
  };
  const over = (top, under) => {
    const mix = (part) => top[part] * top.a + under[part] * (1 - top.a);
    return { r: mix("r"), g: mix("g"), b: mix("b"), a: 1 };
  };
  // WCAG's relative luminance.
  const luminance = ({ r, g, b }) => {
    const [x, y, z] = [r, g, b]
      .map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      layers.unshift(rgba(getComputedStyle(at).backgroundColor));
    }
    return layers.reduce((under, top) => over(top, under), { r: 255, g: 255, b: 255, a: 1 });
  };
  const ownWords = (element) =>
    [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data.trim()).join("");
  const isSeen = (element) => {
    const box = element.getBoundingClientRect();
    const style = getComputedStyle(element);
    return box.width > 0 && box.height > 0 && style.visibility !== "hidden" && style.clipPath === "none";
  };
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  const questions = {
    lowContrasts: () =>
      all("body *").flatMap((element) => {
        const words = ownWords(element);
        // Disabled buttons are exempt from the rule.
        if (!words || element.closest("title, desc, script, noscript, :disabled") || !isSeen(element)) return [];
        const style = getComputedStyle(element);
        const under = ground(element);
        const ink = over(rgba(element.closest("svg") ? style.fill : style.color), under);
        const [high, low] = [luminance(ink), luminance(under)].sort((a, b) => b - a);
        const ratio = (high + 0.05) / (low + 0.05);
        return ratio < 4.5 ? [`${ratio.toFixed(2)}: ${element.tagName} ${words.slice(0, 40)}`] : [];
      }),

    faults: () => {
      const found = [];
      const levels = all("h1, h2, h3, h4").map((heading) => Number(heading.tagName[1]));
      if (levels.filter((level) => level === 1).length !== 1) found.push("not exactly one h1");
      levels.forEach((level, place) => {
        if (level > (levels[place - 1] ?? 0) + 1) found.push(`h${level} after h${levels[place - 1]}`);
      });
      for (const part of ["header", "main", "footer", "nav"]) {
        if (!document.querySelector(part)) found.push(`no ${part}`);
      }
      for (const nav of all("nav")) if (!nav.ariaLabel) found.push("a nav without a name");
      for (const table of all("table")) {
        if (!table.caption?.textContent.trim()) found.push("a table without a caption");
        for (const th of all("th", table)) if (!th.scope) found.push(`th without scope: ${th.textContent}`);
      }
      const ids = all("[id]").map((element) => element.id);
      if (new Set(ids).size < ids.length) found.push(`an id twice among ${ids}`);
      for (const part of all("[aria-labelledby]")) {
        for (const id of part.getAttribute("aria-labelledby").split(" ")) {
          if (!ids.includes(id)) found.push(`aria-labelledby ${id} names nothing`);
        }
      }
      for (const picture of all("svg")) {
        const isNamed = picture.getAttribute("role") === "img" && picture.querySelector("title, desc");
        if (!isNamed && !picture.closest("[aria-hidden=true]")) found.push("a picture without words");
      }
      for (const link of all("a, button, summary")) {
        if (!link.textContent.trim() && !link.ariaLabel) found.push("a link without words");
      }
      for (const region of all("[aria-live]")) if (!region.textContent.trim()) found.push("an empty status");
      return found;
    },

    focus: () => {
      const at = document.activeElement;
      const style = getComputedStyle(at);
      const box = at.getBoundingClientRect();
      return {
        what: at === document.body ? "" : `${at.tagName} ${at.textContent.trim().slice(0, 30)}`,
        place: all("*").indexOf(at),
        outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
        isShown: box.bottom > 0 && box.top < innerHeight && box.width > 0,
      };
    },

    widthOver: () => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth,
  };
  return questions[name]();
};
