// The page before all others works without any script; this one gives it the language button.
import "./both.js";
