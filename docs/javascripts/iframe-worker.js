// Search runs in a worker, which browsers refuse to pages read from a disk. There, and only there,
// it runs in a hidden frame instead. Read by name: mkdocs' plugin `offline` would otherwise fetch
// another such script from a CDN.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.body.appendChild(this.frame)
      const inside = this.frame.contentWindow
      this.heard = event => {
        if (event.source !== inside) return
        const message = new MessageEvent("message", { data: event.data })
        this.dispatchEvent(message)
        if (this.onmessage) this.onmessage(message)
      }
      window.addEventListener("message", this.heard)
      inside.document.open()
      inside.document.write(
        "<script>postMessage = data => parent.postMessage(data, '*')</script>" +
        `<script src="${new URL(url, location.href)}"></script>`
      )
      this.ready = new Promise(resolve => (this.frame.onload = resolve))
      inside.document.close()
    }

    postMessage(data) {
      this.ready.then(() => {
        this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }))
      })
    }

    terminate() {
      window.removeEventListener("message", this.heard)
      this.frame.remove()
    }
  }
}
