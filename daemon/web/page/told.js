// What the daemon says of itself: all of it when the connection begins, and its state again and again.

export const told = { epoch: "", keep: 1000, may: false, stay: [], state: null, history: [] };
