"""WebSocket health: `monitor` holds sessions open; the others dial, keep time and tell."""
