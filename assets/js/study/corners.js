// What stands in the corners of a picture: what a reader of images expects, and nothing that names anybody.

import { t } from "../texts.js";
import { short } from "../view.js";
import { planeIndex, positionOf } from "./place.js";

/** Lines of each corner of a pane. */
export const cornerTexts = (pane) => ({
  start: [subject(pane.image), `${pane.columns}×${pane.rows}`, side(pane.image.facts ?? {}), technique(pane.image.facts ?? {}), lossy(pane.image.facts ?? {})],
  "top-end": [planeName(pane), positionText(pane), thicknessText(pane)],
  "bottom-start": [ruleText(pane), inputText(pane)],
  end: [numberText(pane), windowText(pane), zoomText(pane)],
});

const subject = ({ modality, facts = {} }) => [modality, facts.BodyPartExamined, facts.SeriesNumber && `#${facts.SeriesNumber}`].filter(Boolean).join(" · ");

/** Which breast or limb, and how it was turned: of projections. */
const side = (facts) => [facts.ImageLaterality ?? facts.Laterality, facts.ViewPosition].filter(Boolean).join(" ");

/** How the image was made, in the numbers a reader of its modality looks for. */
function technique(facts) {
  const given = (keyword, write) => (Number(facts[keyword]) > 0 ? write(Number(Number(facts[keyword]).toFixed(1))) : "");
  return [
    given("MagneticFieldStrength", (value) => `${value} T`), given("RepetitionTime", (value) => `TR ${value}`), given("EchoTime", (value) => `TE ${value}`), given("InversionTime", (value) => `TI ${value}`),
    given("KVP", (value) => `${value} kV`),
  ].filter(Boolean).join(" · ");
}

const lossy = (facts) => (facts.LossyImageCompression === "01" ? t("ui.lossy") : "");

const planeName = ({ place }) => (place.plane ? t(`ui.plane_${place.plane.plane}`) : "");

function positionText({ place, loaded: { meta } }) {
  if (place.plane) return `${"XYZ"[AXES[place.plane.plane]]} ${millimetres(place.plane.position_mm)}`;
  if (!meta.place) return "";
  const { axis, mm } = positionOf(meta.place);
  return `${axis} ${millimetres(mm)}`;
}

const AXES = { axial: 2, coronal: 1, sagittal: 0 };
const millimetres = (value) => `${Number(value.toFixed(1))} mm`;

function thicknessText({ place, image }) {
  const { plane } = place;
  if (plane && plane.projection !== "none") return `${t(`ui.projection_${plane.projection}`)} ${millimetres(plane.thickness_mm)}`;
  const thickness = Number(image.facts?.SliceThickness);
  return !plane && thickness > 0 ? `↕ ${millimetres(thickness)}` : "";
}

/** Whether what is seen are pixels or something between them, and whether millimetres hold in the patient. */
function inputText({ painter, loaded }) {
  const { spacing } = loaded.meta;
  const between = painter.source && painter.isScaled ? t(painter.smoothing ? "ui.interpolated" : "ui.nearest") : "";
  return [between, spacing && !spacing.calibrated ? t("ui.uncalibrated") : ""].filter(Boolean).join(" · ");
}

/** How what is shown reaches the model. */
function ruleText({ look }) {
  const [red, green, blue] = look.rule?.channels.map((key) => t(`preset.${key}`)) ?? [];
  return t("ui.model_sees", { what: look.rule ? `R ${red} · G ${green} · B ${blue}` : t("ui.as_displayed") });
}

function numberText({ place, image, grid }) {
  if (place.plane) return grid ? `${planeIndex(grid, place.plane.position_mm) + 1}/${grid.count}` : "";
  return image.frames > 1 ? `${place.frame + 1}/${image.frames}` : "";
}

function windowText({ look }) {
  if (look.rule) return "RGB";
  if (look.voiLut !== null) return "VOI LUT";
  return look.window ? `W ${short(look.window.width)}  C ${short(look.window.center)}` : "";
}

const zoomText = ({ painter }) => (painter.source ? `${Math.round((painter.placement.sx / painter.ratio) * 100)} %` : "");
