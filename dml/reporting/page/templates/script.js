for (const plane of document.querySelectorAll(".plane")) {
  const tip = plane.querySelector(".tip"), picture = tip.querySelector("i"), name = tip.querySelector("span");
  const spots = [...plane.querySelectorAll(".spot")];
  const show = (spot) => {
    for (const other of spots) other.classList.toggle("same", !!spot && other.dataset.c === spot.dataset.c);
    tip.style.display = spot ? "block" : "none";
    if (!spot) return;
    name.textContent = plane.dataset.names ? JSON.parse(plane.dataset.names)[spot.dataset.c] : "";
    const columns = +plane.dataset.columns, number = +spot.dataset.i, side = 98;
    if (columns) {
      picture.style.backgroundImage = "var(--sheet)";
      picture.style.backgroundSize = columns * side + "px auto";
      picture.style.backgroundPosition = -(number % columns) * side + "px " + -Math.floor(number / columns) * side + "px";
    } else picture.style.display = "none";
    const box = plane.getBoundingClientRect(), at = spot.getBoundingClientRect();
    const left = at.left - box.left + 12, top = at.top - box.top + 12;
    tip.style.left = Math.max(0, left + 112 > box.width ? left - 130 : left) + "px";
    tip.style.top = (top + 140 > box.height ? top - 150 : top) + "px";
  };
  plane.addEventListener("pointerover", (event) => show(event.target.closest(".spot")));
  plane.addEventListener("click", (event) => show(event.target.closest(".spot")));
  plane.addEventListener("pointerleave", () => show(null));
}
