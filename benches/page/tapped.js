// The node's worker, with its memory told.
import './tap.js';
import './worker.js';
