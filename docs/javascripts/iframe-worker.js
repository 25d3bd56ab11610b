// A browser starts no Worker for a page that is opened from disk.  There a hidden frame takes its place, for the search.
if (location.protocol === "file:") {
  window.Worker = class {
    #frame = document.createElement("iframe");
    #waiting = [];  // messages until the frame has loaded
    onmessage = null;
    onerror = null;

    constructor(url) {
      this.#frame.hidden = true;
      this.#frame.title = "search";
      document.body.append(this.#frame);
      const inside = this.#frame.contentWindow, script = inside.document.createElement("script");
      inside.postMessage = (data) => this.onmessage?.(new MessageEvent("message", { data }));
      script.src = new URL(url, location.href).href;
      script.onload = () => {
        const waiting = this.#waiting;
        this.#waiting = null;
        waiting.forEach((data) => this.postMessage(data));
      };
      script.onerror = (event) => this.onerror?.(event);
      inside.document.head.append(script);
    }

    postMessage(data) {
      if (this.#waiting) this.#waiting.push(data);
      else setTimeout(() => this.#frame.contentWindow?.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.#frame.remove();
    }
  };
}
