import Foundation
import KdedgeCore
import TensorFlowLite

/// A `.tflite` file in LiteRT: int32 [1, length] ids, mask, segment_ids -> float32 outputs.
final class LiteRtEngine: Engine {
    let length: Int?
    let givesLogits = false

    private let interpreter: Interpreter

    init(model: Data, threads: Int = 1) throws {
        var options = Interpreter.Options()
        options.threadCount = threads
        interpreter = try Interpreter(modelData: model, options: options)
        try interpreter.allocateTensors()
        guard interpreter.inputTensorCount == 3 else {
            throw BundleError(
                "The model takes \(interpreter.inputTensorCount) inputs; three are needed.")
        }
        length = try interpreter.input(at: 0).shape.dimensions[1]
    }

    func run(ids: [Int32], mask: [Int32], segments: [Int32]) throws -> [Float] {
        for (i, row) in [ids, mask, segments].enumerated() {
            try interpreter.copy(row.withUnsafeBytes { Data($0) }, toInputAt: i)
        }
        try interpreter.invoke()
        return try interpreter.output(at: 0).data.withUnsafeBytes {
            Array($0.bindMemory(to: Float.self))
        }
    }
}
