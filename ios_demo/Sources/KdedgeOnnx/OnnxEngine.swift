import COnnxRuntime
import Foundation
import KdedgeCore

/// A `.onnx` file in ONNX Runtime: int64 [1, tokens] inputs -> logits.
public final class OnnxEngine: Engine {
    public let length: Int? = nil
    public let givesLogits = true

    private static let inputs = ["input_ids", "attention_mask", "token_type_ids"]

    private let api: UnsafePointer<OrtApi>
    private let environment: OpaquePointer
    private let session: OpaquePointer
    private let memory: OpaquePointer
    /// Those of the three that the model has.
    private let names: [String]

    /// - Parameters:
    ///   - model: the content of the file.
    ///   - threads: that an inference may use.
    public init(model: Data, threads: Int32 = 1) throws(BundleError) {
        guard let api = OrtGetApiBase().pointee.GetApi(UInt32(ORT_API_VERSION)) else {
            throw BundleError("ONNX Runtime is older than its API version \(ORT_API_VERSION).")
        }
        self.api = api
        let environment = try api.made { api.pointee.CreateEnv(ORT_LOGGING_LEVEL_ERROR, "kdedge", $0) }
        let memory = try api.made {
            api.pointee.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, $0)
        }
        let options = try api.made { api.pointee.CreateSessionOptions($0) }
        defer { api.pointee.ReleaseSessionOptions(options) }
        try api.check(api.pointee.SetIntraOpNumThreads(options, threads))
        // Without VNNI the int8 sums of x86 overflow, which those of phones don't.
        try api.check(
            api.pointee.AddSessionConfigEntry(options, "session.x64quantprecision", "1"))
        let session = try api.made { created in
            model.withUnsafeBytes {
                api.pointee.CreateSessionFromArray(
                    environment, $0.baseAddress, $0.count, options, created)
            }
        }
        self.environment = environment
        self.memory = memory
        self.session = session
        let known = try Self.names(api, session)
        names = Self.inputs.filter(known.contains)
    }

    deinit {
        api.pointee.ReleaseMemoryInfo(memory)
        api.pointee.ReleaseSession(session)
        api.pointee.ReleaseEnv(environment)
    }

    public func run(ids: [Int32], mask: [Int32], segments: [Int32]) throws -> [Float] {
        let rows = ["input_ids": ids, "attention_mask": mask, "token_type_ids": segments]
        // The tensors use this memory, so it must stay where it is until the model has run.
        let count = ids.count
        let buffer = UnsafeMutableBufferPointer<Int64>.allocate(capacity: names.count * count)
        defer { buffer.deallocate() }
        var tensors: [OpaquePointer?] = []
        defer { tensors.forEach { api.pointee.ReleaseValue($0) } }
        for (i, name) in names.enumerated() {
            let row = UnsafeMutableBufferPointer(rebasing: buffer[i * count..<(i + 1) * count])
            _ = row.initialize(from: rows[name, default: []].map { Int64($0) })
            tensors.append(
                try api.made {
                    api.pointee.CreateTensorWithDataAsOrtValue(
                        memory, row.baseAddress, count * MemoryLayout<Int64>.stride,
                        [1, Int64(count)], 2, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, $0)
                })
        }
        let output = try withCStrings(names) { inputs in
            try withCStrings(["logits"]) { outputs in
                try api.made {
                    api.pointee.Run(
                        session, nil, inputs, tensors, tensors.count, outputs, 1, $0)
                }
            }
        }
        defer { api.pointee.ReleaseValue(output) }
        return try logits(of: output)
    }

    private func logits(of tensor: OpaquePointer) throws(BundleError) -> [Float] {
        let shape = try api.made { api.pointee.GetTensorTypeAndShape(tensor, $0) }
        defer { api.pointee.ReleaseTensorTypeAndShapeInfo(shape) }
        var count = 0
        try api.check(api.pointee.GetTensorShapeElementCount(shape, &count))
        var data: UnsafeMutableRawPointer?
        try api.check(api.pointee.GetTensorMutableData(tensor, &data))
        guard let data else { throw BundleError("The model gives no output.") }
        return Array(
            UnsafeBufferPointer(start: data.assumingMemoryBound(to: Float.self), count: count))
    }

    private static func names(
        _ api: UnsafePointer<OrtApi>, _ session: OpaquePointer
    ) throws(BundleError) -> [String] {
        var count = 0
        try api.check(api.pointee.SessionGetInputCount(session, &count))
        var allocator: UnsafeMutablePointer<OrtAllocator>?
        try api.check(api.pointee.GetAllocatorWithDefaultOptions(&allocator))
        var names: [String] = []
        for i in 0..<count {
            var name: UnsafeMutablePointer<CChar>?
            try api.check(api.pointee.SessionGetInputName(session, i, allocator, &name))
            guard let name else { continue }
            names.append(String(cString: name))
            try api.check(api.pointee.AllocatorFree(allocator, name))
        }
        return names
    }
}

extension UnsafePointer<OrtApi> {
    /// Throws what a status says, and releases it.
    fileprivate func check(_ status: OpaquePointer?) throws(BundleError) {
        guard let status else { return }
        defer { pointee.ReleaseStatus(status) }
        let message = pointee.GetErrorMessage(status).map { String(cString: $0) } ?? ""
        throw BundleError("ONNX Runtime refuses this model: \(message)")
    }

    /// What a function of the API makes.
    fileprivate func made(
        _ make: (UnsafeMutablePointer<OpaquePointer?>) -> OpaquePointer?
    ) throws(BundleError) -> OpaquePointer {
        var result: OpaquePointer?
        try check(make(&result))
        guard let result else { throw BundleError("ONNX Runtime made nothing.") }
        return result
    }
}

private func withCStrings<Result>(
    _ strings: [String], _ body: ([UnsafePointer<CChar>?]) throws -> Result
) rethrows -> Result {
    let copies = strings.map { strdup($0) }
    defer { copies.forEach { free($0) } }
    return try body(copies.map { UnsafePointer($0) })
}
