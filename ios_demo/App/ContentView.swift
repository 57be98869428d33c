import KdedgeCore
import SwiftUI

/// Type, and see the labels, how probable they are and how long that took.
struct ContentView: View {
    @State private var model = Model()
    @State private var text = ""
    @State private var pair = ""

    var body: some View {
        Form {
            Picker("Model", selection: $model.artifact) {
                ForEach(model.artifacts, id: \.self, content: Text.init)
            }
            TextField("Type a text", text: $text, axis: .vertical)
            if model.takesPairs {
                TextField("Type a second text", text: $pair, axis: .vertical)
            }
            Section {
                // VoiceOver reads it out when the label changes.
                Text(model.message)
                    .font(.title2)
                    .accessibilityAddTraits(.updatesFrequently)
                if let answer = model.answer {
                    ForEach(answer.probabilities, id: \.label, content: Bar.init)
                    Text(latency(answer)).font(.footnote)
                }
            }
        }
        // Anew for each text and model; what came before is cancelled.
        .task(id: [text, pair, model.artifact]) {
            do {
                try await Task.sleep(for: .milliseconds(150))
                await model.ask(text, pair: pair)
            } catch {}
        }
    }

    private func latency(_ answer: Answer) -> String {
        let format = Duration.UnitsFormatStyle.units(
            allowed: [.milliseconds], fractionalPart: .show(length: 2))
        return "Tokenize \(answer.tokenizing.formatted(format)), "
            + "infer \(answer.inference.formatted(format))"
    }
}

/// A label's bar, which is read out as one: "positive, 97 %".
private struct Bar: View {
    let probability: Answer.Probability

    private var percent: String {
        probability.value.formatted(.percent.precision(.fractionLength(0)))
    }

    var body: some View {
        ProgressView(value: probability.value) {
            HStack {
                Text(probability.label)
                Spacer()
                Text(percent)
            }
        }
        .accessibilityElement(children: .ignore)
        .accessibilityLabel(probability.label)
        .accessibilityValue(percent)
    }
}
