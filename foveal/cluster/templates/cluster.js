{
  const points = JSON.parse(document.getElementById("points").textContent);
  const maps = document.querySelector(".maps");
  const card = maps.querySelector(".asked-dot");
  const REACH = 14; // px: a dot this close to the pointer is selected

  maps.querySelectorAll(".choice, .scripted").forEach((part) => { part.hidden = false; });

  const only = (mark) => {
    if (mark) maps.dataset.only = mark; else delete maps.dataset.only;
    maps.querySelectorAll("[data-kind]").forEach((button) => {
      button.setAttribute("aria-pressed", String(button.dataset.kind === mark));
    });
  };
  maps.querySelectorAll("[name=by]").forEach((choice) => choice.addEventListener("change", () => {
    maps.dataset.by = choice.value;
    only("");
  }));
  maps.querySelectorAll("[data-kind]").forEach((button) => button.addEventListener("click", () => {
    only(maps.dataset.only === button.dataset.kind ? "" : button.dataset.kind);
  }));

  const forget = () => {
    card.hidden = true;
    maps.querySelectorAll("circle.asked").forEach((dot) => dot.classList.remove("asked"));
  };

  const nearest = (svg, event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let best = null, least = (REACH * scale) ** 2;
    for (const dot of svg.children) {
      if (maps.dataset.only && !dot.classList.contains(maps.dataset.only)) continue;
      const far = (dot.cx.baseVal.value - x) ** 2 + (dot.cy.baseVal.value - y) ** 2;
      if (far < least) [best, least] = [dot, far];
    }
    return best;
  };

  const ask = (svg, event) => {
    const dot = nearest(svg, event);
    forget();
    if (!dot) return;
    const [id, label, cluster, source, part, flags, picture] = points[dot.dataset.n];
    maps.querySelectorAll(`circle[data-n="${dot.dataset.n}"]`).forEach((same) => same.classList.add("asked"));
    const image = card.querySelector("img");
    image.hidden = !picture;
    if (picture) image.src = picture; else image.removeAttribute("src");
    card.querySelector("b").textContent = label;
    card.querySelector("span").textContent = [`cluster ${cluster}`, source, part, flags].filter(Boolean).join(" · ");
    card.querySelector("code").textContent = id;
    card.hidden = false;
    const { width, height } = card.getBoundingClientRect();
    card.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 4))}px`;
    card.style.top = `${event.clientY + 14 + height > innerHeight ? event.clientY - height - 14 : event.clientY + 14}px`;
  };

  maps.querySelectorAll("svg").forEach((svg) => {
    svg.addEventListener("pointermove", (event) => ask(svg, event));
    svg.addEventListener("pointerdown", (event) => ask(svg, event));
    svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") forget(); });
  });
  addEventListener("scroll", forget, { passive: true });
  addEventListener("keydown", (event) => { if (event.key === "Escape") { forget(); only(""); } });
}
