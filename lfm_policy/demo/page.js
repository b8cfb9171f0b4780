// Two comforts; everything is there without scripts, too.
for (const films of document.querySelectorAll(".films")) {
  const videos = [...films.querySelectorAll("video")];

  // Controls would hide a third of so small a picture: they come with the pointer or the focus.
  for (const video of videos) {
    video.controls = false;
    video.tabIndex = 0;
    for (const event of ["pointerenter", "focus"]) {
      video.addEventListener(event, () => { video.controls = true; });
    }
    for (const event of ["pointerleave", "blur"]) {
      video.addEventListener(event, () => { video.controls = false; });
    }
  }

  const button = document.createElement("button");
  button.type = "button";
  button.textContent = videos.length > 1 ? "\u25b6\u2002Play together" : "\u25b6\u2002Play";
  button.addEventListener("click", () => {
    for (const video of videos) {
      video.currentTime = 0;
      video.play();
    }
  });
  films.querySelector("header").append(button);
}
