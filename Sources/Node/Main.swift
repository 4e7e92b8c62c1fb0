// Main: the entry of `triad`.

@main
enum Main {
    static func main() {
    }
}
