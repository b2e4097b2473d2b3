// ---- training.js: the second tab, the curves of the training -------------------------------------------------

function showTraining() {
  const { records, run } = tour.training;
  if (!records.length) {
    setText("training-text", run === null ? "These weights come from a file, which has no log of its training."
      : `${run} has no finished epoch in its log.`);
    return;
  }
  const last = records.at(-1), epochs = records.map(({ epoch }) => epoch);
  setText("training-text", `${run}: ${last.step} steps in ${last.epoch} epochs, ${text(last.seconds)} s.`);
  const curve = (title, lines, { factor = 1, ...options }) => {
    const series = lines.filter(([name]) => name in last).map(([name, label, tint]) => (
      { name: label, colour: cssColour(tint), values: records.map((record) => factor * record[name]) }));
    return make("figure", {}, lineChart(title, epochs, series, { across: "epoch", ...options }),
                make("figcaption", {}, title, ...(series.length > 1 ? keys(series) : [])));
  };
  byId("curves").replaceChildren(
    curve("Training loss after each epoch", [["loss", "loss", "blue"]], { zero: true }),
    curve("Accuracy:", [["accuracy", "training batches", "blue"], ["test_accuracy", "test images", "orange"],
                        ["val_accuracy", "validation images", "green"]], { factor: 100, unit: "%" }),
    curve("Learning rate", [["lr", "learning rate", "blue"]], { zero: true }),
    curve("Gradient norm of the last step of each epoch, before clipping", [["grad_norm", "gradient norm", "blue"]],
          { logarithmic: true }));
  showLayerNorms(records);
}

/** The norms of each part of the model over the epochs, if the run kept them. */
function showLayerNorms(records) {
  const host = byId("layer-norms"), last = records.findLast((record) => record.weight_norms);
  if (!last) {
    host.replaceChildren(make("p", { class: "faint" }, "This run did not keep the norms of its layers. A training with "
      + "--log-norms does."));
    return;
  }
  host.replaceChildren(make("h2", {}, "Norms by layer"), make("div", { class: "charts" },
    ...[["grad_norms", "Gradient norm"], ["weight_norms", "Weight norm"]].map(([key, title]) => {
      const names = Object.keys(last[key]), hue = (i) => 230 - 250 * i / names.length;    // blue first, red last
      const series = names.map((name, i) => ({ name, colour: `hsl(${hue(i)} 70% 48%)`,
                                               values: records.map((record) => record[key]?.[name] ?? NaN) }));
      const chart = lineChart(`${title} by layer`, records.map(({ epoch }) => epoch), series,
                              { across: "epoch", logarithmic: true });
      return make("figure", {}, chart, make("figcaption", {}, title, ...keys(series)));
    })));
}
