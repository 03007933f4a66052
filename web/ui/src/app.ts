// The entry: pages are complete without this; a lesson page comes to life, and
// a long list of labs gets a filter.

import { startHome } from "./home";
import { Lesson } from "./lesson";
import { startTheme } from "./theme";

startTheme();
if (document.body.classList.contains("lesson")) {
  new Lesson(document.body);
} else if (document.body.classList.contains("home-page")) {
  startHome(document.body);
}
