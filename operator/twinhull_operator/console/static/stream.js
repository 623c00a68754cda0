// The stream of changes. Comes back by itself; tells when what is shown may be old.
import { ask } from "/static/api.js";

const SILENCE = 40000;

export class Stream {
  constructor(on) {
    this.on = on;
    this.heard = Date.now();
    this.delay = 1000;
  }

  open() {
    this.close();
    this.heard = Date.now();
    this.source = new EventSource("/api/stream");
    for (const name of ["console", "modules", "module", "gone", "ended"]) {
      this.source.addEventListener(name, (event) => {
        this.heard = Date.now();
        this.delay = 1000;
        const data = JSON.parse(event.data);
        if (name === "ended") {
          this.close();
          if (data.code === "OperatorStops") this.again(data.message);
          else this.on.ended(data);
        } else this.on[name](data);
      });
    }
    this.source.addEventListener("error", () => this.again());
    this.watch = setInterval(() => { if (Date.now() - this.heard > SILENCE) this.again(); }, 5000);
  }

  close() {
    if (this.source) this.source.close();
    clearInterval(this.watch);
    clearTimeout(this.timer);
    this.source = null;
  }

  again(message) {
    const since = this.heard;
    this.close();
    this.on.lost(since, message);
    this.timer = setTimeout(async () => {
      try {
        const session = await ask("/api/session");
        if (session.user) this.open();
        else this.on.ended(session);
      } catch (refused) {
        this.heard = since;
        this.again(refused.status ? refused.message : message);
      }
    }, this.delay);
    this.delay = Math.min(this.delay * 2, 15000);
  }
}
