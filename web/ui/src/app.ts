// The entry: pages are complete without this; a lesson page comes to life.

import { Lesson } from "./lesson";
import { startTheme } from "./theme";

startTheme();
if (document.body.classList.contains("lesson")) {
  new Lesson(document.body);
}
