import SwiftUI

@main
struct KdedgeDemoApp: App {
    var body: some Scene {
        WindowGroup { ContentView() }
    }
}
